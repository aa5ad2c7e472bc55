//! Credentials, referred to by name in mounts and resolved in each process.

use std::fmt;

use crate::{UfsError, UfsErrorKind};

/// What a request is signed with. `Debug` shows only the access key id.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the key; not secret.
    pub access_key_id: String,
    /// Signs requests.
    pub secret_access_key: String,
    /// Goes with temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Resolves the name of credentials in this process (from its configuration or environment).
pub trait CredentialSource: Send + Sync {
    /// The credentials called `name`.
    ///
    /// # Errors
    /// `Invalid`, naming `name` and where it would be configured, when there are none.
    fn resolve(&self, name: &str) -> Result<Credentials, UfsError>;
}

/// Knows no names: stores use the standard chain of their platform.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn resolve(&self, name: &str) -> Result<Credentials, UfsError> {
        Err(UfsError::new(
            UfsErrorKind::Invalid,
            format!("no credentials are called {name:?} in this process: add them to its configuration"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_secret() {
        let credentials = Credentials {
            access_key_id: "AKIA1".to_owned(),
            secret_access_key: "hush-key".to_owned(),
            session_token: Some("hush-token".to_owned()),
        };
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(shown.contains("AKIA1"));
        assert!(!shown.contains("hush"), "{shown}");
    }
}
