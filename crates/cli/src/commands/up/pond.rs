//! The parts of `headpond up` at work.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use headpond_client::{Client, ClientConfig, Neighbours};
use headpond_fuse::RunningMount;
use headpond_master::{MasterConfig, RunningMaster};
use headpond_runtime::Ending;
use headpond_transport::dialled;
use headpond_types::{ErrorKind, Result};
use headpond_worker::{RunningWorker, WorkerConfig};

use super::{plan::Plan, store};
use crate::{
    credentials::ConfiguredCredentials,
    part::{Observed, Part, unmount, worse},
};

/// How long the start waits until the worker is in the ring. It goes on without: reads then wait by themselves.
const JOIN: Duration = Duration::from_secs(5);

/// Between two looks whether the worker is in the ring.
const LOOK: Duration = Duration::from_millis(5);

/// What runs. Parts that have not been started are not there.
#[derive(Debug, Default)]
pub(super) struct Pond {
    observed: Option<Observed>,
    master: Option<(Part, Arc<RunningMaster>)>,
    session: Option<Part>,
    worker: Option<(Part, RunningWorker)>,
    mount: Option<(Part, RunningMount)>,
    unmounted: Option<String>,
}

impl Pond {
    /// Starts one part after the other. What has been started stays when this fails or is dropped: [`Pond::end`] ends it.
    pub(super) async fn start(&mut self, plan: &Plan) -> Result<()> {
        let settings = &plan.settings;
        let credentials = ConfiguredCredentials::new(settings.credentials.clone());
        let observed = self.observed.insert(Observed::serve(&settings.http).await?);

        let neighbours = Neighbours::new();
        let part = Part::new("master");
        let config = MasterConfig { neighbours: neighbours.clone(), ..settings.master.clone() };
        let master = observed.master(&part, config, credentials.clone()).await?;
        let masters = vec![dialled(master.address()).to_string()];
        self.master = Some((part, master));

        let session = self.session.insert(Part::new("client"));
        let config =
            ClientConfig { masters: masters.clone(), neighbours: neighbours.clone(), ..settings.client.clone() };
        let client = Client::connect(config, session.tasks().clone())?;
        store::bind(&client, plan, &credentials).await?;

        let part = Part::new("worker");
        let config = WorkerConfig { masters, neighbours, ..settings.worker.clone() };
        let worker = observed.worker(&part, config, credentials).await?;
        let (_, worker) = self.worker.insert((part, worker));
        joined(worker).await;

        if plan.mountpoint.is_some() {
            let part = Part::new("mount");
            match observed.mount(&part, settings.mount.clone(), client).await {
                Ok(mount) => self.mount = Some((part, mount)),
                Err(error) if error.kind() == ErrorKind::NotSupported => {
                    tracing::debug!(error = crate::failure::line(&error), "nothing is mounted");
                    self.unmounted = Some(error.message().to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        observed.started();
        Ok(())
    }

    /// Ends the parts in the reverse order.
    pub(super) async fn end(&mut self) -> Ending {
        let mut ending = Ending::Clean;
        if let Some((part, mount)) = self.mount.take() {
            ending = worse(ending, unmount(mount).await);
            ending = worse(ending, part.end().await);
        }
        let parts =
            [self.session.take(), self.worker.take().map(|(part, _)| part), self.master.take().map(|(part, _)| part)];
        for part in parts.into_iter().flatten() {
            ending = worse(ending, part.end().await);
        }
        match self.observed.take() {
            Some(observed) => worse(ending, observed.end().await),
            None => ending,
        }
    }

    /// Whether there is a mount.
    pub(super) const fn is_mounted(&self) -> bool {
        self.mount.is_some()
    }

    /// The mount.
    pub(super) fn mount(&self) -> Option<&RunningMount> {
        self.mount.as_ref().map(|(_, mount)| mount)
    }

    /// Why there is no mount although one was wanted.
    pub(super) fn unmounted(&self) -> Option<&str> {
        self.unmounted.as_deref()
    }

    /// The master.
    pub(super) fn master(&self) -> Option<&RunningMaster> {
        self.master.as_ref().map(|(_, master)| &**master)
    }

    /// Where metrics and health are served, if they are.
    pub(super) fn http(&self) -> Option<SocketAddr> {
        self.observed.as_ref()?.address
    }

    /// The worker.
    pub(super) fn worker(&self) -> Option<&RunningWorker> {
        self.worker.as_ref().map(|(_, worker)| worker)
    }
}

/// Waits until the master has the worker in the ring, so that the first read finds it.
async fn joined(worker: &RunningWorker) {
    let join = async {
        while worker.ready().is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(JOIN, join).await.is_err() {
        tracing::warn!("the worker is not in the ring yet: reads wait for it");
    }
}
