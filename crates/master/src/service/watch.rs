//! A client's session as a stream of events.

use std::sync::Arc;

use futures::{StreamExt, stream, stream::BoxStream};
use headpond_proto::v1::{WatchEvent, watch_event::Event};
use headpond_runtime::Shutdown;
use headpond_types::Ring;
use tonic::Status;

use crate::sessions::Session;

/// The stream that answers a watch call.
pub(super) type Events = BoxStream<'static, Result<WatchEvent, Status>>;

/// The ring first, then what `session` hears; ends when the master shuts down. The session must have begun before `ring` was
/// read, so that no change falls between.
pub(super) fn events(session: Session, ring: &Arc<Ring>, shutdown: Shutdown) -> Events {
    let ring = WatchEvent { event: Some(Event::Ring(Ring::clone(ring).into())) };
    let changes = stream::unfold((session, shutdown), |(mut session, shutdown)| async move {
        tokio::select! {
            () = shutdown.begun() => None,
            event = session.next() => Some((Ok(event?), (session, shutdown))),
        }
    });
    stream::iter([Ok(ring)]).chain(changes).boxed()
}
