//! Keeping the namespace fresh: what to ask under stores, when, and how their answers enter the namespace.
//!
//! * [`Bounds`], with the times of the last checks (`freshness`), say whether the namespace may answer by itself.
//! * [`SyncEngine::check`] asks about one name, [`SyncEngine::listing`] about a directory or all below it; each question is
//!   asked once at a time (`flight`). A directory in which many names are asked for is listed by itself (`survey`).
//!   A listing goes on from the page by which its directory was found a moment ago (`first_page`). Prefixes that hold nothing are
//!   told from others once somebody has looked into them (`hollow`).
//! * A listing is placed (`translate`), brought into the order of names (`name_order`), compared (`difference`) and merged
//!   (`merge`); readers follow its [`Progress`].
//!
//! A failed question changes nothing, and nothing is forgotten before a directory was listed to its end.

mod difference;
mod engine;
mod first_page;
mod flight;
mod freshness;
mod hollow;
mod left_out;
mod merge;
mod metrics;
mod name_order;
mod progress;
mod run;
mod survey;
mod translate;

pub(crate) use difference::{is_ahead, is_unpersisted};
pub(crate) use engine::SyncEngine;
pub(crate) use flight::Flight;
pub(crate) use freshness::{Bounds, Freshness};
pub(crate) use metrics::SyncMetrics;
pub(crate) use progress::Progress;
pub(crate) use run::{Scope, stale};
