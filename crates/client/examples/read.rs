//! Copies a file to the standard output: `cargo run -p headpond-client --example read -- /data/log.txt`.

use std::io::Write;

use anyhow::Context;
use clap::Parser;
use futures::TryStreamExt;
use headpond_client::{Client, ClientConfig};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::NsPath;

#[derive(Parser)]
struct Args {
    /// File to read.
    path: String,
    /// Master to ask, as host:port.
    #[arg(long, default_value = "127.0.0.1:7100")]
    master: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = ClientConfig { masters: vec![args.master], name: "example".to_owned(), ..ClientConfig::default() };
    let client = Client::connect(config, Tasks::new(Shutdown::new()))?;

    let path: NsPath = args.path.parse().context("the path")?;
    let attr = client.resolve(&path).await?.attr.with_context(|| format!("{path} does not exist"))?;
    let file = client.open(attr.inode).await?;
    let mut chunks = file.read_stream(0..file.length());
    let mut out = std::io::stdout().lock();
    while let Some(chunk) = chunks.try_next().await? {
        out.write_all(&chunk)?;
    }
    Ok(())
}
