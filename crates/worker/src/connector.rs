//! Connects mounts to their under stores.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use headpond_proto::v1::Mount;
use headpond_types::Result;
use headpond_ufs::{CredentialSource, StoreUri, UnderStore};

use crate::mounts::Connect;

/// Builds the driver that a mount's URI names, with this process's credentials.
pub(crate) struct Connector(pub(crate) Arc<dyn CredentialSource>);

impl Connect for Connector {
    fn connect<'a>(&'a self, mount: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        Box::pin(async move {
            let uri = StoreUri::parse(&mount.uri)?;
            let options = mount.options.clone().into_iter().collect();
            Ok(headpond_ufs::connect(&uri, &options, &*self.0).await?)
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
