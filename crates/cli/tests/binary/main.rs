//! The real binary: what it prints, how it ends, and what it leaves behind.

mod bad_input;
mod config;
mod descriptors;
mod durability;
mod fs;
mod ground;
mod unmountable;
mod up;
