//! Lists a directory as the entries arrive: `cargo run -p headpond-client --example list -- /data`.

use anyhow::Context;
use clap::Parser;
use futures::TryStreamExt;
use headpond_client::{Client, ClientConfig, ListOptions};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::NsPath;

#[derive(Parser)]
struct Args {
    /// Directory to list.
    #[arg(default_value = "/")]
    path: String,
    /// All below it.
    #[arg(short, long)]
    recursive: bool,
    /// Master to ask, as host:port.
    #[arg(long, default_value = "127.0.0.1:7100")]
    master: String,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "its output is what it is for")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let config = ClientConfig { masters: vec![args.master], name: "example".to_owned(), ..ClientConfig::default() };
    let client = Client::connect(config, Tasks::new(Shutdown::new()))?;

    let path: NsPath = args.path.parse().context("the path")?;
    let options = ListOptions { recursive: args.recursive, ..ListOptions::default() };
    let mut pages = client.list(path, options);
    while let Some(page) = pages.try_next().await? {
        for entry in page.entries {
            println!("{:>14}  {}", entry.attr.size, String::from_utf8_lossy(&entry.name));
        }
    }
    Ok(())
}
