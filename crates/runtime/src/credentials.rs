//! Credentials of under stores as the configuration names them: `[credentials.NAME]`.
//!
//! Mounts refer to credentials by name; each process resolves the name for itself, so no secret enters the journal or an
//! answer of the API. Secrets may stand in a file of their own (a Kubernetes secret's mount), read at every use so that a
//! rotated secret is seen.

use std::{fs, path::PathBuf};

use headpond_types::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::Secret;

/// Names that are redacted when settings are shown.
pub(crate) const SECRET_KEYS: [&str; 2] = ["secret_access_key", "session_token"];

/// One section `[credentials.NAME]`, or `HEADPOND_CREDENTIALS__NAME__…` in the environment (NAME is then in lower case).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialConfig {
    /// The public half of the key pair. Required.
    pub access_key_id: String,
    /// The secret half. Either this or `secret_access_key_file` is required.
    pub secret_access_key: Option<Secret>,
    /// A file that holds the secret half alone; a trailing newline is dropped.
    pub secret_access_key_file: Option<PathBuf>,
    /// Token of temporary credentials. Default: none.
    pub session_token: Option<Secret>,
}

/// A key pair, ready to use.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// Token of temporary credentials.
    pub session_token: Option<Secret>,
}

impl CredentialConfig {
    /// Reads what this section, called `name`, refers to. Blocks on a file.
    ///
    /// # Errors
    /// `InvalidArgument` when the secret is missing, given twice, or its file cannot be read.
    pub fn resolve(&self, name: &str) -> Result<Credentials> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
        let secret_access_key = match (&self.secret_access_key, &self.secret_access_key_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => {
                let text = fs::read_to_string(path).map_err(|error| {
                    let path = path.display();
                    invalid(format!("cannot read secret_access_key_file {path} of the credentials {name:?}"))
                        .with_source(error)
                })?;
                Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => {
                return Err(invalid(format!(
                    "the credentials {name:?} have no secret: set secret_access_key or secret_access_key_file in [credentials.{name}]"
                )));
            }
            (Some(_), Some(_)) => {
                return Err(invalid(format!(
                    "the credentials {name:?} have two secrets: set either secret_access_key or secret_access_key_file in [credentials.{name}]"
                )));
            }
        };
        Ok(Credentials {
            access_key_id: self.access_key_id.clone(),
            secret_access_key,
            session_token: self.session_token.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CredentialConfig {
        CredentialConfig {
            access_key_id: "id".to_owned(),
            secret_access_key: Some(Secret::new("hunter2".to_owned())),
            secret_access_key_file: None,
            session_token: Some(Secret::new("hunter3".to_owned())),
        }
    }

    #[test]
    fn a_secret_comes_from_the_section_or_from_a_file_but_not_from_both() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "from file\n").expect("written");
        assert_eq!(config().resolve("n").expect("inline").secret_access_key.reveal(), "hunter2");

        let from_file =
            CredentialConfig { secret_access_key: None, secret_access_key_file: Some(file.path().into()), ..config() };
        assert_eq!(from_file.resolve("n").expect("file").secret_access_key.reveal(), "from file");

        let both = CredentialConfig { secret_access_key_file: Some(file.path().into()), ..config() };
        assert!(both.resolve("n").expect_err("two secrets").to_string().contains("two secrets"));
        let neither = CredentialConfig { secret_access_key: None, ..config() };
        assert!(neither.resolve("n").expect_err("no secret").to_string().contains("[credentials.n]"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", config(), config().resolve("n").expect("complete"));
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
