//! Reads of a warm content through the SDK over TCP, against what loopback carries (iperf3, one stream).

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use headpond_client::{Client, ClientConfig};
use headpond_runtime::{Shutdown, Tasks};
use headpond_tests::{Command, Process, eventually, free_port, noise};

use crate::{
    report::Report,
    world::{MIB, Scale, World, float, read_through},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let length = 512 * MIB / scale.divisor;
    world.put([("big.bin".to_owned(), noise(1, usize::try_from(length)?))])?;
    let pond = world.pond().start()?;
    read_through(&pond.path("big.bin"))?;

    let port = free_port()?.to_string();
    let mut command = Command::new("iperf3");
    command.args(["-s", "-B", "127.0.0.1", "-p", &port, "--forceflush"]);
    let mut server = Process::start("iperf3", &command, &world.folder.path().join("iperf.log"))
        .context("the baseline needs iperf3: apt-get install iperf3")?;
    eventually("iperf3 listens", || {
        server.check_running()?;
        Ok(server.output().contains("listening"))
    })?;

    let tasks = Tasks::new(Shutdown::new());
    let config = ClientConfig { masters: vec![pond.master()], prefer_local: false, ..ClientConfig::default() };
    let _entered = world.runtime.enter();
    let client = Client::connect(config, tasks)?;
    let path = "/big.bin".parse()?;
    report.compare(
        scale,
        "SDK read of a warm content over TCP, one stream, against iperf3",
        "MB/s",
        "≥ 0.5 ×",
        || {
            let megabytes = (float(length) / 1e6).to_string();
            let bytes = format!("{length}");
            let output = Command::new("iperf3").args(["-c", "127.0.0.1", "-p", &port, "-n", &bytes, "-J"]).output()?;
            ensure!(output.status.success(), "iperf3: {}", String::from_utf8_lossy(&output.stdout));
            Ok(megabytes.parse()?)
        },
        || {
            world.runtime.block_on(async {
                let attr = client.resolve(&path).await?.attr.context("big.bin is there")?;
                let file = client.open(attr.inode).await?;
                let mut stream = file.read_stream(0..length);
                let mut sum = 0;
                while let Some(chunk) = stream.next().await {
                    sum += chunk?.len() as u64;
                }
                ensure!(sum == length, "{sum} bytes instead of {length}");
                Ok(float(sum) / 1e6)
            })
        },
    )?;
    Ok(())
}
