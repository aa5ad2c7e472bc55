//! The worker as a whole, against a master of its own and an under store that counts and misbehaves.

#![allow(clippy::single_range_in_vec_init, reason = "ranges are the data here")]

mod ahead;
mod faults;
mod fills;
mod heads;
mod lake;
mod later;
mod local;
mod master;
mod originals;
mod pond;
mod restart;
mod staging;
mod yard;
