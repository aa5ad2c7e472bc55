//! The client against masters and workers that do what a test tells them.

mod ahead;
mod changing;
mod durability;
mod fakes;
mod holes;
mod local;
mod losses;
mod metadata;
mod remote;
mod room;
mod sessions;
mod times;
mod whole;
mod writing;
