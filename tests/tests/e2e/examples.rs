//! The examples of the SDK.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Command, Pond, noise};

use crate::lake::Lake;

/// An example as it was built beside the tests.
fn example(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let built = own.ancestors().map(|folder| folder.join("examples").join(name)).find(|path| path.is_file());
    built.with_context(|| format!("no example {name}: `cargo build -p headpond-client --examples` builds it"))
}

/// What an example says of a path.
fn run(pond: &Pond, name: &str, args: &[&str]) -> Result<Vec<u8>> {
    let ended = Command::new(example(name)?).args(args).args(["--master", &pond.master()]).output()?;
    ensure!(ended.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(ended.stdout)
}

#[test]
fn the_examples_do_what_they_say() -> Result<()> {
    let (body, footer) = (noise(1, 300_000), noise(2, 1000));
    let parquet = [b"PAR1", &body[..], &footer[..], &1000u32.to_le_bytes(), b"PAR1"].concat();
    let lake = Lake::of([("d/plain", body.clone()), ("d/part.parquet", parquet.into())])?;
    let pond = lake.pond().start()?;
    let text = |name: &str, args: &[&str]| -> Result<String> { Ok(String::from_utf8(run(&pond, name, args)?)?) };

    let listed = text("list", &["--recursive", "/"])?;
    let listed: Vec<_> = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    ensure!(listed == [["0", "d"], ["301012", "d/part.parquet"], ["300000", "d/plain"]], "{listed:?}");
    ensure!(run(&pond, "read", &["/d/plain"])? == body, "what was read differs");
    let tail = text("parquet_tail", &["/d/part.parquet"])?;
    ensure!(tail.contains("301012 bytes, footer of 1000 bytes at 300004"), "{tail}");
    let loaded = text("warm", &["/d"])?;
    ensure!(loaded.contains("601012 bytes in 2 files cached"), "{loaded}");
    let freed = text("warm", &["--free", "/d"])?;
    ensure!(freed.contains(" in 2 contents freed"), "{freed}");

    let missing = Command::new(example("read")?).args(["/d/none", "--master", &pond.master()]).output()?;
    let told = String::from_utf8_lossy(&missing.stderr);
    ensure!(!missing.status.success() && told.contains("/d/none does not exist"), "{told}");
    Ok(())
}
