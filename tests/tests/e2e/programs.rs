//! Programs that people run on their data, on ten thousand objects: cold and warm, they see what the bucket holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Command, Sample};
use sha2::{Digest as _, Sha256};

use crate::lake::Lake;

#[test]
fn programs_see_what_the_bucket_holds_cold_and_warm() -> Result<()> {
    let mut sample = Sample::lake(20, 10_000, 3 << 20);
    let needle = b"the needle that grep looks for\n".to_vec();
    sample.objects.push(("part=0/needle.txt".to_owned(), needle.into()));
    let tables = parquet_tables()?;
    for (name, bytes) in &tables {
        sample.objects.push((format!("tables/{name}"), bytes.clone().into()));
    }
    sample.objects.sort_by(|a, b| a.0.cmp(&b.0));
    let lake = Lake::with(&sample)?;
    let before = lake.list()?;
    let pond = lake.pond().start()?;
    let root = pond.path("");
    let scratch = tempfile::tempdir()?;
    let sums = scratch.path().join("SHA256SUMS");
    let lines = sample.objects.iter().map(|(key, body)| format!("{}  {key}\n", hex::encode(Sha256::digest(body))));
    std::fs::write(&sums, lines.collect::<String>())?;
    let expected: BTreeMap<_, _> = sample.objects.iter().map(|(key, body)| (key.clone(), body.len())).collect();

    for round in ["cold", "warm"] {
        let listed = run(Command::new("find").args([".", "-type", "f", "-printf", "%P\t%s\n"]).current_dir(&root))?;
        let found: BTreeMap<_, _> = listed
            .lines()
            .map(|line| {
                let (key, size) = line.split_once('\t').context("find prints key and size")?;
                Ok((key.to_owned(), size.parse()?))
            })
            .collect::<Result<_>>()?;
        ensure!(found == expected, "{round}: find sees {} files instead of {}", found.len(), expected.len());

        run(Command::new("sha256sum").args(["--quiet", "-c"]).arg(&sums).current_dir(&root))
            .with_context(|| format!("{round}: sha256sum -c"))?;

        let hits = run(Command::new("grep").args(["-rl", "needle that grep", "."]).current_dir(&root))?;
        ensure!(hits.trim() == "./part=0/needle.txt", "{round}: grep finds {hits:?}");

        let copy = scratch.path().join(round);
        std::fs::create_dir(&copy)?;
        let archive = scratch.path().join("lake.tar");
        run(Command::new("tar").arg("-cf").arg(&archive).arg(".").current_dir(&root))?;
        run(Command::new("tar").arg("-xf").arg(&archive).current_dir(&copy))?;
        compare(&copy, &sample).with_context(|| format!("{round}: tar"))?;

        // With checksums and nothing to do, rsync prints no line for a file.
        let mut rsync = Command::new("rsync");
        rsync.args(["-rcn", "--delete", "--out-format=%n"]).arg(format!("{}/", root.display())).arg(&copy);
        let differing = run(&mut rsync)?;
        let files: Vec<_> = differing.lines().filter(|line| !line.ends_with('/')).collect();
        ensure!(files.is_empty(), "{round}: rsync sees differences in {files:?}");
        std::fs::remove_dir_all(&copy)?;

        for (name, _) in &tables {
            let sum = python(&format!(
                "import pyarrow.parquet as p; t = p.read_table({:?}, columns=['n']); print(sum(t['n'].to_pylist()))",
                root.join("tables").join(name)
            ))?;
            ensure!(sum.trim() == ROW_SUM, "{round}: pyarrow sums {name} to {sum}");
        }
    }
    ensure!(lake.list()? == before, "reading changed the bucket");
    ensure!(lake.offences().is_empty(), "reading sent {:?}", lake.offences());
    Ok(())
}

const ROW_SUM: &str = "4999950000";

/// Two Parquet files of 100,000 rows, in one and in ten row groups.
fn parquet_tables() -> Result<Vec<(String, Vec<u8>)>> {
    let folder = tempfile::tempdir()?;
    let mut tables = Vec::new();
    for (name, rows) in [("one.parquet", 100_000), ("ten.parquet", 10_000)] {
        let path = folder.path().join(name);
        python(&format!(
            "import pyarrow as a, pyarrow.parquet as p; n = list(range(100000)); t = a.table({{'n': n, 's': [str(i) for \
             i in n]}}); p.write_table(t, {path:?}, row_group_size={rows})"
        ))?;
        tables.push((name.to_owned(), std::fs::read(&path)?));
    }
    Ok(tables)
}

/// Runs a line of Python with pyarrow, as `make tools` installed it.
fn python(line: &str) -> Result<String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).context("no HOME")?;
    let interpreter = cache.join("headpond-tests/python/bin/python");
    ensure!(interpreter.is_file(), "no Python with pyarrow at {}: `make tools` installs it", interpreter.display());
    run(Command::new(interpreter).args(["-c", line]))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}: `make tools` installs it"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn compare(folder: &Path, sample: &Sample) -> Result<()> {
    for (key, body) in &sample.objects {
        let read = std::fs::read(folder.join(key)).with_context(|| key.clone())?;
        ensure!(read == body[..], "{key} differs");
    }
    Ok(())
}
