//! A rename is one step for everybody.

use std::{
    fs,
    io::ErrorKind,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{LEASE, ROUNDS, Two, names};

#[test]
fn nobody_sees_half_a_rename() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir(two.a("r"))?;
    fs::write(two.a("r/one"), "body")?;
    for _ in 0..ROUNDS / 20 {
        for (old, new) in [("r/one", "r/two"), ("r/two", "r/one")] {
            // Its kernel knows them all.
            ensure!(two.b(old).exists() && !two.b(new).exists(), "{old} is not there before, or {new} is");
            ensure!(names(&two.b("r"))? == [&old[2..]], "{:?}", names(&two.b("r")));
            fs::rename(two.a(old), two.a(new))?;
            ensure!(!two.b(old).exists(), "{old} is still there");
            ensure!(two.b(new).exists(), "{new} is not there");
            ensure!(names(&two.b("r"))? == [&new[2..]], "{:?}", names(&two.b("r")));
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut looks = 0;
            while !done.load(Ordering::SeqCst) {
                let seen = names(&two.b("r"))?;
                ensure!(seen.len() == 1, "a listing has {seen:?}");
                drop((fs::metadata(two.b("r/one")), fs::metadata(two.b("r/two"))));
                looks += 1;
            }
            Ok(looks)
        });
        let writer = || -> Result<()> {
            for _ in 0..ROUNDS / 10 {
                fs::rename(two.a("r/one"), two.a("r/two"))?;
                fs::rename(two.a("r/two"), two.a("r/one"))?;
            }
            Ok(())
        };
        let written = writer();
        done.store(true, Ordering::SeqCst);
        let looks = reader.join().expect("no panic")?;
        ensure!(looks > 0, "nobody looked");
        written
    })
}

#[test]
fn neither_of_two_exchanged_names_is_ever_missing() -> Result<()> {
    let two = Two::start()?;
    fs::create_dir_all(two.a("x/d"))?;
    fs::write(two.a("x/f"), "body")?;
    let exchange = || renameat_with(CWD, two.a("x/f"), CWD, two.a("x/d"), RenameFlags::EXCHANGE);
    for round in 0..ROUNDS / 20 {
        let (file, dir) = if round % 2 == 0 { ("x/f", "x/d") } else { ("x/d", "x/f") };
        ensure!(two.b(file).is_file() && two.b(dir).is_dir(), "round {round}: not as it was before");
        exchange()?;
        ensure!(two.b(file).is_dir() && two.b(dir).is_file(), "round {round}: not as it is now");
        ensure!(names(&two.b("x"))? == ["d", "f"], "round {round}: {:?}", names(&two.b("x")));
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut looks = 0;
            while !done.load(Ordering::SeqCst) {
                let seen = names(&two.b("x"))?;
                ensure!(seen == ["d", "f"], "a listing has {seen:?}");
                for name in ["x/d", "x/f"] {
                    fs::metadata(two.b(name)).with_context(|| format!("look {looks} at {name}"))?;
                }
                looks += 1;
            }
            Ok(looks)
        });
        let written = (0..ROUNDS).try_for_each(|_| exchange());
        done.store(true, Ordering::SeqCst);
        let looks = reader.join().expect("no panic")?;
        println!("{looks} looks at {ROUNDS} exchanges");
        ensure!(looks > 0, "nobody looked");
        Ok(written?)
    })
}

/// All files below a directory of the second mount; `None` when it was renamed meanwhile.
fn below(two: &Two, dir: &str) -> Result<Option<Vec<String>>> {
    let mut found = Vec::new();
    for sub in ["", "/sub"] {
        match fs::read_dir(two.b(&format!("{dir}{sub}"))) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if entry.file_name() != "sub" {
                        found.push(format!("{}{sub}", entry.file_name().to_string_lossy()));
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(Some(found))
}

#[test]
fn nobody_sees_half_a_renamed_directory() -> Result<()> {
    for durability in ["through", "async"] {
        let two = Two::with_store(LEASE, &["--durability", durability])?;
        fs::create_dir_all(two.a("r/one/sub"))?;
        for n in 0..20 {
            let sub = if n % 2 == 0 { "" } else { "/sub" };
            fs::write(two.a(&format!("r/one{sub}/f{n}")), n.to_string())?;
        }
        let all = below(&two, "r/one")?.unwrap_or_default();
        ensure!(all.len() == 20, "{all:?}");
        let done = AtomicBool::new(false);
        let (whole, written) = thread::scope(|scope| {
            let reader = scope.spawn(|| -> Result<usize> {
                let mut whole = 0;
                while !done.load(Ordering::SeqCst) {
                    let seen = names(&two.b("r"))?;
                    ensure!(seen.len() == 1, "a listing has {seen:?}");
                    for dir in ["r/one", "r/two"] {
                        if let Some(found) = below(&two, dir)? {
                            ensure!(found == all, "{dir} has {found:?}");
                            whole += 1;
                        }
                    }
                }
                Ok(whole)
            });
            let written = (0..ROUNDS / 10).try_for_each(|_| {
                fs::rename(two.a("r/one"), two.a("r/two"))?;
                fs::rename(two.a("r/two"), two.a("r/one"))
            });
            done.store(true, Ordering::SeqCst);
            (reader.join().expect("no panic"), written)
        });
        written?;
        let whole = whole?;
        println!("{durability}: all of a directory was seen {whole} times");
        ensure!(whole > 0, "nobody looked");
    }
    Ok(())
}
