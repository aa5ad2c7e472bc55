//! Brings all files below a directory into the cache, or drops them again: `cargo run -p headpond-client --example warm -- /data`.

use anyhow::{Context, ensure};
use clap::Parser;
use headpond_client::{Client, ClientConfig, LoadOptions};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::NsPath;

#[derive(Parser)]
struct Args {
    /// Directory or file.
    path: String,
    /// Drop the cached copies on all workers.
    #[arg(long)]
    free: bool,
    /// Master to ask, as host:port.
    #[arg(long, default_value = "127.0.0.1:7100")]
    master: String,
}

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = ClientConfig { masters: vec![args.master], name: "example".to_owned(), ..ClientConfig::default() };
    let client = Client::connect(config, Tasks::new(Shutdown::new()))?;

    let path: NsPath = args.path.parse().context("the path")?;
    let attr = client.resolve(&path).await?.attr.with_context(|| format!("{path} does not exist"))?;
    println!("{path}: a {:?} of {} bytes, mode {:o}", attr.kind, attr.size, attr.mode);
    if args.free {
        let freed = client.free(path.clone(), true).await?;
        println!("{path}: {} bytes in {} contents freed", freed.bytes, freed.contents);
        return Ok(());
    }
    let options = LoadOptions { recursive: true, ..LoadOptions::default() };
    let told = |progress: &headpond_client::LoadProgress| {
        eprintln!("{} of {} files", progress.files_done, progress.files_total)
    };
    let loaded = client.load(path.clone(), options, told).await?;
    println!("{path}: {} bytes in {} files cached", loaded.bytes_done, loaded.files_done);
    ensure!(loaded.files_failed == 0, "{} files failed", loaded.files_failed);
    Ok(())
}
