//! Fills: how missing pages come here, each of them once however many readers want it.
//!
//! * A [`Job`] is one reader's wish: a content and where its bytes may come from. [`Pages`] walks through its ranges and has
//!   the pages ahead of the reader claimed; [`Filler::claim`] is the one place where it is decided who fetches a page.
//! * A claimed page that is missing has one flight in the table of flights. Readers wait for flights, page by page.
//! * Adjacent flights that start together are one run: one ranged request of up to `max_request` bytes to the block's
//!   owner or to the under store. A run belongs to no reader; it lands whether or not anybody still waits.
//!
//! Invariants:
//! 1. A page is present in the store before its flight leaves the table, and whether it is present is looked up while the
//!    table is locked. So a page that is neither in the table nor present is not being fetched by anybody.
//! 2. Every flight gets exactly one outcome, also when its run fails or is dropped; none stays in the table for ever.
//! 3. Whoever is asked as the owner ([`Route::Direct`]) never waits for a flight that goes to a peer, so two workers that
//!    disagree about an owner do not wait for each other.
//!    For the same reason the bytes under way from peers are bounded apart from those from under stores.
//! 4. Segments (aligned, `max_request` long) cut runs; a block is a whole number of segments, so a run has one owner.
//!
//! Lock order: flight table, then what the page store locks inside.

mod admission;
mod filler;
mod flight;
mod headway;
mod landing;
mod pages;
mod run;
mod source;

pub(crate) use filler::{Filler, Job};
pub(crate) use flight::{Filled, Route};
pub(crate) use headway::Priority;
pub(crate) use pages::{Pages, Step};
