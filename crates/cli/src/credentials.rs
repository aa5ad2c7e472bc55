//! The credentials of the configuration, for under stores.

use std::collections::BTreeMap;

use headpond_runtime::CredentialConfig;
use headpond_ufs::{CredentialSource, Credentials, UfsError, UfsErrorKind};

/// Resolves the names of `[credentials.NAME]`. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredCredentials(BTreeMap<String, CredentialConfig>);

impl ConfiguredCredentials {
    pub(crate) const fn new(sections: BTreeMap<String, CredentialConfig>) -> Self {
        Self(sections)
    }
}

impl CredentialSource for ConfiguredCredentials {
    fn resolve(&self, name: &str) -> Result<Credentials, UfsError> {
        let section = self.0.get(name).ok_or_else(|| {
            let message = format!(
                "no credentials are called {name:?} in this process: add [credentials.{name}] to its configuration"
            );
            UfsError::new(UfsErrorKind::Invalid, message)
        })?;
        let resolved = section
            .resolve(name)
            .map_err(|error| UfsError::new(UfsErrorKind::Invalid, error.to_string()).with_source(error))?;
        Ok(Credentials {
            access_key_id: resolved.access_key_id,
            secret_access_key: resolved.secret_access_key.reveal().to_owned(),
            session_token: resolved.session_token.map(|token| token.reveal().to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_or_the_section_to_add_is_named() {
        let section = r#"{"access_key_id": "id", "secret_access_key": "hunter2"}"#;
        let section = serde_json::from_str(section).expect("a section");
        let source = ConfiguredCredentials::new(BTreeMap::from([("lake".to_owned(), section)]));
        assert_eq!(source.resolve("lake").expect("known").secret_access_key, "hunter2");
        let error = source.resolve("pond").expect_err("unknown");
        assert_eq!(error.kind(), UfsErrorKind::Invalid);
        assert!(error.to_string().contains("[credentials.pond]"), "{error}");
        assert!(!format!("{source:?}").contains("hunter2"));
    }
}
