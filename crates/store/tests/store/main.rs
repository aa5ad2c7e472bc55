//! The page store through its public API, on real directories.

#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dirty;
#[cfg(test)]
mod eviction;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod staging;
#[cfg(test)]
mod support;
#[cfg(test)]
mod versions;
