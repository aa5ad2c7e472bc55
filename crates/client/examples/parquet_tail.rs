//! Reads a Parquet file as an engine does: the footer's length from the last 8 bytes, then the footer and the first bytes of
//! the file in one vectored read. `cargo run -p headpond-client --example parquet_tail -- /data/part-0.parquet`.

use anyhow::{Context, ensure};
use clap::Parser;
use headpond_client::{Client, ClientConfig};
use headpond_runtime::{Shutdown, Tasks};
use headpond_types::NsPath;

/// Marks both ends of a Parquet file.
const MAGIC: &[u8; 4] = b"PAR1";

#[derive(Parser)]
struct Args {
    /// Parquet file to look into.
    path: String,
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
    let attr = client.resolve(&path).await?.attr.with_context(|| format!("{path} does not exist"))?;
    let file = client.open(attr.inode).await?;
    let length = file.length();
    ensure!(length >= 12, "{path} is too short for a Parquet file");

    let tail = file.read_at(length - 8, 8).await?;
    let (size, magic) = tail.split_first_chunk::<4>().context("8 bytes were asked for")?;
    ensure!(magic == MAGIC, "{path} does not end as a Parquet file does");
    let footer = u64::from(u32::from_le_bytes(*size));
    let start = (length - 8).checked_sub(footer).with_context(|| format!("{path} has a footer longer than itself"))?;

    let parts = file.read_ranges(&[0..4, start..length - 8]).await?;
    ensure!(parts[0] == MAGIC[..], "{path} does not begin as a Parquet file does");
    println!("{path}: {length} bytes, footer of {} bytes at {start}", parts[1].len());
    Ok(())
}
