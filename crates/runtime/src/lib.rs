//! What every process of Headpond stands on: clock, tasks and shutdown, configuration, telemetry.

mod clock;
mod tasks;

pub use clock::{Clock, ManualClock, SystemClock};
pub use tasks::{Shutdown, Tasks};
