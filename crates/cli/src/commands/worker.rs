//! `headpond worker`.

use std::path::PathBuf;

use clap::Args;
use headpond_runtime::{Ending, Signals, units};
use headpond_types::{Error, ErrorKind};
use headpond_worker::{CacheDir, WorkerConfig};

use crate::{
    args::ProcessArgs,
    credentials::ConfiguredCredentials,
    failure::Result,
    part::{Observed, Part, interrupted},
    process,
    settings::{self, Role, Settings, flag},
    socket,
};

/// Run a worker: the cache on this machine's disks.
///
/// Settings are those of `worker`, `tls`, `http`, `log` and `credentials.NAME`; `headpond config show --for worker` lists them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond worker --dir /mnt/nvme0/headpond=500GiB --master 10.0.0.1:7100 --bind 0.0.0.0:7200
  headpond worker -c /etc/headpond/headpond.toml")]
pub(crate) struct WorkerArgs {
    /// A cache directory and the most bytes that it takes; may be given several times.
    #[arg(long, value_name = "DIR=SIZE", value_parser = parse_dir)]
    dir: Option<Vec<CacheDir>>,
    /// Masters, separated by commas. Default: 127.0.0.1:7100.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    master: Option<Vec<String>>,
    /// Where clients and other workers reach it. Default: 127.0.0.1:7200.
    #[arg(long, value_name = "HOST:PORT")]
    bind: Option<String>,
    /// The address to tell others, if it is not the one of --bind.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Unix socket for clients on this machine; empty: none, they come over TCP. Default: worker.sock in the first --dir.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Name of this machine; clients with the same name use the socket. Default: the host name.
    #[arg(long)]
    node: Option<String>,
    /// Zone of this machine.
    #[arg(long)]
    zone: Option<String>,
    /// Where metrics and health are served. Default: 127.0.0.1:7210.
    #[arg(long, value_name = "HOST:PORT")]
    http_bind: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(args: WorkerArgs) -> Result<()> {
    let layers = settings::layers(&Settings::of(Role::Worker), &args.process)?;
    let layers = flag(layers, "--dir", "worker.dirs", args.dir.as_ref())?;
    let layers = flag(layers, "--master", "worker.masters", args.master.as_ref())?;
    let layers = flag(layers, "--bind", "worker.bind", args.bind.as_ref())?;
    let layers = flag(layers, "--advertise", "worker.advertise", args.advertise.as_ref())?;
    let layers = flag(layers, "--socket", "worker.socket", args.socket.as_ref())?;
    let layers = flag(layers, "--node", "worker.node", args.node.as_ref())?;
    let layers = flag(layers, "--zone", "worker.zone", args.zone.as_ref())?;
    let layers = flag(layers, "--http-bind", "http.bind", args.http_bind.as_ref())?;
    let mut settings = Settings::load(&layers)?;
    settings.worker.socket = socket_of(&settings.worker)?;
    process::run(&settings.log.clone(), async |signals| serve(settings, signals).await)
}

async fn serve(settings: Settings, signals: &mut Signals) -> Result<Ending> {
    let observed = Observed::serve(&settings.http).await?;
    let part = Part::new("worker");
    let credentials = ConfiguredCredentials::new(settings.credentials);
    let worker = tokio::select! {
        started = observed.worker(&part, settings.worker, credentials) => started?,
        signal = signals.next() => return Err(interrupted(signal).into()),
    };
    tracing::info!(address = %worker.address(), advertised = worker.advertised(), "the worker serves");
    Ok(observed.serve_until_signal(part, signals).await)
}

/// The socket to listen on: without one, a mount on this machine would not read cache files itself.
fn socket_of(config: &WorkerConfig) -> Result<Option<PathBuf>, Error> {
    if let Some(socket) = &config.socket {
        return Ok(Some(socket.clone()).filter(|socket| !socket.as_os_str().is_empty()));
    }
    let Some(first) = config.dirs.first() else { return Ok(None) };
    let dir = std::path::absolute(&first.path).map_err(|error| {
        let message = format!("cache directory {} cannot be found", first.path.display());
        Error::new(ErrorKind::InvalidArgument, message).with_source(error)
    })?;
    let socket = socket::path(&dir);
    socket::prepare(&socket, &dir)?;
    Ok(Some(socket))
}

fn parse_dir(text: &str) -> Result<CacheDir, Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, message);
    let Some((path, size)) = text.rsplit_once('=').filter(|(path, _)| !path.is_empty()) else {
        return Err(invalid(format!(
            "{text:?} does not say how much the directory may take: write DIR=SIZE, as /mnt/cache=100GiB"
        )));
    };
    let capacity = units::parse_bytes(size).map_err(|error| invalid(error.to_string()))?;
    Ok(CacheDir { path: path.into(), capacity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_directory_comes_with_its_size() {
        let dir = parse_dir("/a=b=2GiB").expect("valid");
        assert_eq!((dir.path, dir.capacity), (PathBuf::from("/a=b"), 2 << 30));
        for text in ["/a", "=1GiB", "/a=", "/a=much"] {
            assert!(parse_dir(text).is_err(), "{text}");
        }
    }
}
