//! From a URI to a store.

use std::{collections::BTreeMap, sync::Arc};

use crate::{CredentialSource, Local, Memory, Scheme, StoreUri, UfsError, UnderStore, options::Options};

/// The store that `uri` names, ready for use. Nothing is asked of a remote store yet.
///
/// # Errors
/// `Invalid` for an unknown or malformed option or an unknown credential name; `NoSuchStore` when a local directory does not exist.
pub async fn connect(
    uri: &StoreUri,
    options: &BTreeMap<String, String>,
    credentials: &dyn CredentialSource,
) -> Result<Arc<dyn UnderStore>, UfsError> {
    let driver: Arc<dyn UnderStore> = match uri.scheme() {
        Scheme::Memory => {
            Options::new(uri, options, &[])?;
            Arc::new(Memory::named(uri.root()))
        }
        Scheme::File => {
            Options::new(uri, options, &[])?;
            Arc::new(Local::open(&uri.directory()).await?)
        }
        #[cfg(feature = "s3")]
        Scheme::S3 => {
            let options = Options::new(uri, options, &[crate::s3::OPTIONS])?;
            Arc::new(crate::S3::connect(uri.root(), &options, credentials).await?)
        }
        #[cfg(not(feature = "s3"))]
        Scheme::S3 => {
            let _ = credentials;
            return Err(UfsError::new(
                crate::UfsErrorKind::Unsupported,
                format!("cannot reach {uri}: this build has no S3 driver, build with the feature s3"),
            ));
        }
    };
    Ok(driver)
}
