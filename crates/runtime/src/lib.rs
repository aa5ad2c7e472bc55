//! What every process of Headpond stands on: clock, tasks and shutdown, configuration, telemetry.

mod clock;
pub mod config;
mod credentials;
mod secret;
mod tasks;
pub mod units;

pub use clock::{Clock, ManualClock, SystemClock};
pub use credentials::{CredentialConfig, Credentials};
pub use secret::Secret;
pub use tasks::{Shutdown, Tasks};
