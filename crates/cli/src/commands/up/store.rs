//! The mount of the namespace's root that `headpond up` keeps.

use headpond_client::{Client, Mount, NewMount};
use headpond_types::{Error, ErrorKind, NsPath, Result};
use headpond_ufs::{ListRequest, StoreUri};

use super::plan::Plan;
use crate::credentials::ConfiguredCredentials;

/// Makes the root of the namespace show the plan's store.
///
/// A root that shows it already is left as it is, whether the store answers or not: what is cached can be read. One that shows
/// another store is replaced, after the new store has answered; pages in the cache stay valid, they are known by their
/// content. As long as workers hold what the old store lacks it is not replaced: that would be lost.
pub(super) async fn bind(client: &Client, plan: &Plan, credentials: &ConfiguredCredentials) -> Result<()> {
    let admin = client.admin();
    let wanted = wanted(plan);
    let present = admin.mounts().await?.into_iter().find(|mount| mount.spec.path.is_root());
    match present {
        Some(mount) if is_same(&mount, &wanted) => return Ok(()),
        Some(_) => {
            probe(plan, credentials).await?;
            check_persisted(client).await?;
            admin.remove_mount(&NsPath::root()).await?;
        }
        None => probe(plan, credentials).await?,
    }
    admin.add_mount(wanted).await.map(drop)
}

async fn check_persisted(client: &Client) -> Result<()> {
    let pending = client.pending(&NsPath::root(), None).await?;
    let files = pending.due.files + pending.not_due.files;
    if files == 0 {
        return Ok(());
    }
    let message = format!(
        "{files} files were written under other options and are not in the store: start with those, and with --no-mount, \
         run `headpond fs persist /` and `headpond fs sync /`, then start anew"
    );
    Err(Error::new(ErrorKind::Busy, message))
}

fn wanted(plan: &Plan) -> NewMount {
    NewMount {
        options: plan.options.clone(),
        sync_interval: plan.sync_interval,
        read_only: plan.read_only,
        persistence: plan.persistence.clone(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..NewMount::new(NsPath::root(), plan.store.to_string())
    }
}

fn is_same(mount: &Mount, wanted: &NewMount) -> bool {
    let uri = |mount: &NewMount| StoreUri::parse(&mount.uri).ok();
    let same_uri = uri(&mount.spec) == uri(wanted);
    same_uri && NewMount { uri: wanted.uri.clone(), ..mount.spec.clone() } == *wanted
}

/// Asks the store for one key. The master does so too, but a store that it cannot list is worth a warning to it.
async fn probe(plan: &Plan, credentials: &ConfiguredCredentials) -> Result<()> {
    let deadline = plan.settings.master.store_deadline.as_secs().max(1);
    let mut options = plan.options.clone();
    options.insert("deadline_seconds".to_owned(), deadline.to_string());
    let store = headpond_ufs::connect(&plan.store, &options, credentials).await?;
    let request = ListRequest { prefix: plan.store.prefix().clone(), max_keys: 1, ..ListRequest::default() };
    store.list(&request).await.map(drop).map_err(Error::from)
}
