//! The page store through its public API, on real directories.

#[cfg(test)]
mod pages;
#[cfg(test)]
mod support;
