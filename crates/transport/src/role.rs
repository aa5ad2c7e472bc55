//! What a certificate says that its holder may do.

use rustls::pki_types::CertificateDer;
use url::Url;
use webpki::EndEntityCert;

/// URIs of this scheme among the subject alternative names are ours.
const SCHEME: &str = "headpond:";

/// What the holder of a certificate may do; the certificate names it by exactly one URI among its subject alternative names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `headpond://node`: a master, a worker, or a mount that serves the users of its machine. May everything, and may act for others.
    Node,
    /// `headpond://admin`: an operator, whom permissions of files do not bind. May everything but what only parts of the cluster do.
    Admin,
    /// `headpond://user/NAME?uid=UID&gid=GID`, with a `gid` for each group: a user of the file system.
    User(User),
}

/// A user as a certificate names him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// For people.
    pub name: String,
    /// For permissions; never 0.
    pub uid: u32,
    /// All groups; at least one.
    pub gids: Vec<u32>,
}

/// Why a certificate names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// It has no URI of ours.
    #[error(
        "the certificate names no role: one of its subject alternative names must be the URI headpond://node, headpond://admin or headpond://user/NAME?uid=UID&gid=GID"
    )]
    Missing,
    /// It has several.
    #[error(
        "the certificate names several roles: it must have one headpond:// URI among its subject alternative names"
    )]
    Several,
    /// What it has is none.
    #[error(
        "the certificate names the role {0:?}: known are headpond://node, headpond://admin and headpond://user/NAME?uid=UID&gid=GID with numbers above 0 for users"
    )]
    Unknown(String),
}

impl Role {
    /// The role that a certificate names. Whether somebody to be trusted has signed it is not looked at.
    ///
    /// # Errors
    /// It names none, or several.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, RoleError> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|_| RoleError::Missing)?;
        let mut uris = certificate.valid_uri_names().filter(|uri| uri.starts_with(SCHEME));
        let uri = uris.next().ok_or(RoleError::Missing)?;
        if uris.next().is_some() {
            return Err(RoleError::Several);
        }
        Self::parse(uri).ok_or_else(|| RoleError::Unknown(uri.to_owned()))
    }

    fn parse(uri: &str) -> Option<Self> {
        let parsed = Url::parse(uri).ok()?;
        match (parsed.host_str()?, parsed.path(), parsed.query()) {
            ("node", "", None) => Some(Self::Node),
            ("admin", "", None) => Some(Self::Admin),
            ("user", path, Some(_)) => {
                let name = path.strip_prefix('/').filter(|name| !name.is_empty() && !name.contains('/'))?;
                let (mut uid, mut gids) = (None, Vec::new());
                for (key, value) in parsed.query_pairs() {
                    match &*key {
                        "uid" if uid.is_none() => uid = Some(value.parse().ok()?),
                        "gid" => gids.push(value.parse().ok()?),
                        _ => return None,
                    }
                }
                let uid = uid.filter(|uid| *uid != 0)?;
                (!gids.is_empty()).then(|| Self::User(User { name: name.to_owned(), uid, gids }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_role_or_none() {
        assert_eq!(Role::parse("headpond://node"), Some(Role::Node));
        assert_eq!(Role::parse("headpond://admin"), Some(Role::Admin));
        let ada = User { name: "ada".to_owned(), uid: 7, gids: vec![8, 0] };
        assert_eq!(Role::parse("headpond://user/ada?uid=7&gid=8&gid=0"), Some(Role::User(ada)));
        for uri in [
            "headpond://",
            "headpond://nodes",
            "headpond://node/a",
            "headpond://node?uid=1",
            "headpond://user",
            "headpond://user/ada",
            "headpond://user/?uid=7&gid=8",
            "headpond://user/a/b?uid=7&gid=8",
            "headpond://user/ada?uid=7",
            "headpond://user/root?uid=0&gid=0",
            "headpond://user/ada?uid=7&uid=8&gid=8",
            "headpond://user/ada?uid=-1&gid=8",
            "headpond://user/ada?uid=7&gid=8&admin=1",
        ] {
            assert_eq!(Role::parse(uri), None, "{uri}");
        }
    }
}
