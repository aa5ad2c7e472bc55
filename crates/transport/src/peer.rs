//! Who sends a request, and whether he may.

use headpond_proto::{status, v1::Caller};
use headpond_types::{Error, ErrorKind, Result};
use tonic::{Request, Status};

use crate::{Role, RoleError};

/// Who is at the other end of a connection that a server has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// There is no TLS: whoever reaches the port. Is what he says to be, and may everything.
    Anyone,
    /// The holder of a certificate.
    Known(Role),
    /// The holder of a certificate that names no role. May nothing.
    Unknown(RoleError),
}

impl Peer {
    /// Who sent `request`, to a server on [`crate::Incoming`].
    ///
    /// # Errors
    /// `PermissionDenied` when it came another way, or who sent it may nothing.
    pub fn of<T>(request: &Request<T>) -> Result<Self> {
        match request.extensions().get::<Self>() {
            Some(Self::Unknown(error)) => Err(denied(error.to_string())),
            Some(peer) => Ok(peer.clone()),
            None => Err(denied("it is not known who asks")),
        }
    }

    /// An interceptor for services that any known peer may use.
    ///
    /// # Errors
    /// As of [`Peer::of`].
    pub fn admit(request: Request<()>) -> Result<Request<()>, Status> {
        Self::of(&request).map(|_| request).map_err(|error| status::from_error(&error))
    }

    /// An interceptor for services that are for parts of the cluster.
    ///
    /// # Errors
    /// `PermissionDenied` for admins and users, and as of [`Peer::of`].
    pub fn admit_node(request: Request<()>) -> Result<Request<()>, Status> {
        let checked = match Self::of(&request) {
            Ok(Self::Known(Role::Admin | Role::User(_))) => {
                Err(denied("this is for parts of the cluster: it needs a certificate with the URI headpond://node"))
            }
            Ok(_) => Ok(request),
            Err(error) => Err(error),
        };
        checked.map_err(|error| status::from_error(&error))
    }

    /// # Errors
    /// `PermissionDenied` for users; `what` is what only operators may do.
    pub fn require_operator(&self, what: &str) -> Result<()> {
        match self {
            Self::Known(Role::User(user)) => Err(denied(format!(
                "user {} may not {what}: it needs a certificate with the URI headpond://admin or headpond://node",
                user.name
            ))),
            Self::Anyone | Self::Known(Role::Node | Role::Admin) | Self::Unknown(_) => Ok(()),
        }
    }

    /// For whom a request counts that says to come from `claimed`: for nodes, and without TLS, from him; for an admin from the operator; for
    /// a user from that user.
    ///
    /// # Errors
    /// `PermissionDenied` when a user says to be another.
    pub fn caller(&self, claimed: Option<Caller>) -> Result<Option<Caller>> {
        match self {
            Self::Anyone | Self::Known(Role::Node) => Ok(claimed),
            Self::Known(Role::Admin) => Ok(None),
            Self::Known(Role::User(user)) if claimed.as_ref().is_some_and(|claimed| claimed.uid == user.uid) => {
                Ok(Some(Caller { uid: user.uid, gids: user.gids.clone() }))
            }
            Self::Known(Role::User(user)) => {
                let claimed =
                    claimed.map_or_else(|| "the operator".to_owned(), |claimed| format!("uid {}", claimed.uid));
                let (name, uid) = (&user.name, user.uid);
                Err(denied(format!("user {name} (uid {uid}) may not act as {claimed}: only nodes act for others")))
            }
            Self::Unknown(error) => Err(denied(error.to_string())),
        }
    }
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::PermissionDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn user() -> Peer {
        Peer::Known(Role::User(User { name: "ada".to_owned(), uid: 7, gids: vec![8] }))
    }

    fn caller(uid: u32, gid: u32) -> Option<Caller> {
        Some(Caller { uid, gids: vec![gid] })
    }

    fn request(peer: Peer) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(peer);
        request
    }

    #[test]
    fn only_nodes_speak_for_others() {
        for peer in [Peer::Anyone, Peer::Known(Role::Node)] {
            assert_eq!(peer.caller(caller(9, 9)).expect("taken"), caller(9, 9));
            assert_eq!(peer.caller(None).expect("taken"), None);
        }
        assert_eq!(Peer::Known(Role::Admin).caller(caller(9, 9)).expect("taken"), None);
        assert_eq!(user().caller(caller(7, 0)).expect("himself"), caller(7, 8), "groups are the certificate's");
        for claimed in [caller(9, 8), caller(0, 0), None] {
            assert_eq!(user().caller(claimed).expect_err("another").kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn each_role_may_what_is_its() {
        let unknown = Peer::Unknown(RoleError::Missing);
        for (peer, enters, joins, operates) in [
            (Peer::Anyone, true, true, true),
            (Peer::Known(Role::Node), true, true, true),
            (Peer::Known(Role::Admin), true, false, true),
            (user(), true, false, false),
            (unknown, false, false, false),
        ] {
            assert_eq!(Peer::admit(request(peer.clone())).is_ok(), enters, "{peer:?}");
            assert_eq!(Peer::admit_node(request(peer.clone())).is_ok(), joins, "{peer:?}");
            let operator = Peer::of(&request(peer.clone())).and_then(|peer| peer.require_operator("add mounts"));
            assert_eq!(operator.is_ok(), operates, "{peer:?}");
        }
        assert!(Peer::of(&Request::new(())).is_err(), "a server that does not say who asks serves nobody");
    }
}
