//! A client's session as a stream of events.

use std::sync::Arc;

use futures::{StreamExt, stream, stream::BoxStream};
use headpond_proto::v1::{SessionBegun, WatchEvent, WatchRequest, watch_event::Event};
use headpond_runtime::Shutdown;
use headpond_types::Ring;
use tonic::{Status, Streaming};

use super::message::millis;
use crate::sessions::{Listener, Session};

/// The stream that answers a watch call.
pub(super) type Events = BoxStream<'static, Result<WatchEvent, Status>>;

/// The session's id and the ring first, then what `session` hears; ends when the master shuts down. The session must have begun before `ring` was
/// read, so that no change falls between.
pub(super) fn events(session: Session, ring: &Arc<Ring>, shutdown: Shutdown) -> Events {
    let begun = SessionBegun { id: session.id(), patience_ms: millis(session.patience()) };
    let first = [Event::Session(begun), Event::Ring(Ring::clone(ring).into())];
    let first = first.map(|event| Ok(WatchEvent { event: Some(event) }));
    let changes = stream::unfold((session, shutdown), |(mut session, shutdown)| async move {
        tokio::select! {
            () = shutdown.begun() => None,
            event = session.next() => Some((Ok(event?), (session, shutdown))),
        }
    });
    stream::iter(first).chain(changes).boxed()
}

/// Takes what the client says in a session, of which `first` was the beginning, for as long as it says anything.
pub(super) async fn listen(first: WatchRequest, mut said: Streaming<WatchRequest>, listener: Listener) {
    let mut next = Some(first);
    while let Some(WatchRequest { cached_above, taken, leave, .. }) = next {
        if cached_above {
            listener.has_caches_above();
        }
        listener.take(&taken);
        if leave {
            listener.leave();
        }
        next = said.message().await.ok().flatten();
    }
}
