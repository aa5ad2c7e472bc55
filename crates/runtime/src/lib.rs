//! What every process of Headpond stands on: clock, tasks and shutdown, configuration, logs, metrics and health.

mod clock;
pub mod config;
mod credentials;
pub mod descriptors;
pub mod durable;
pub mod http;
mod readiness;
mod secret;
mod signals;
mod tasks;
pub mod telemetry;
pub mod units;

pub use clock::{Clock, ManualClock, SystemClock};
pub use credentials::{CredentialConfig, Credentials};
pub use http::{HttpConfig, Metrics};
pub use readiness::{Condition, Readiness};
pub use secret::Secret;
pub use signals::{Ending, Signals};
pub use tasks::{Shutdown, Tasks};
pub use telemetry::{LogConfig, LogFormat};
