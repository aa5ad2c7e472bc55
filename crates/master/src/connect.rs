//! How the master comes to a store.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use headpond_ufs::{CredentialSource, StoreUri, UfsError, UnderStore};

/// Makes stores from URIs.
#[async_trait]
pub(crate) trait Connect: fmt::Debug + Send + Sync + 'static {
    /// The store that `uri` names.
    async fn connect(
        &self,
        uri: &StoreUri,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn UnderStore>, UfsError>;
}

/// The drivers, with this process's credentials.
pub(crate) struct Drivers(pub(crate) Arc<dyn CredentialSource>);

#[async_trait]
impl Connect for Drivers {
    async fn connect(
        &self,
        uri: &StoreUri,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn UnderStore>, UfsError> {
        headpond_ufs::connect(uri, options, &*self.0).await
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drivers")
    }
}
