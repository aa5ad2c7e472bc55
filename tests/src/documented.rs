//! The tests that `docs/semantics.md` names are there.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Names of modules, from the crate down, and of a test in the last.
type Test = (Vec<String>, String);

/// The tests of all files below `folder`.
fn collect(folder: &Path, tests: &mut Vec<Test>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let modules: Vec<_> =
                path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let text = std::fs::read_to_string(&path)?;
            let names =
                text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            let names = names.filter_map(|rest| rest.split(['(', '<']).next());
            tests.extend(names.map(|name| (modules.clone(), name.to_owned())));
        }
    }
    Ok(())
}

/// What the page names as `module::test` or `module::*`.
fn named(page: &str) -> Vec<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_test = |text: &&str| {
        text.contains("::") && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c))
    };
    quoted.filter(is_test).collect()
}

#[test]
fn the_tests_that_the_promise_names_are_there() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let mut tests = Vec::new();
    for folder in ["crates", "tests/tests"] {
        collect(&root.join(folder), &mut tests)?;
    }
    let page = std::fs::read_to_string(root.join("docs/semantics.md"))?;
    let names = named(&page);
    assert!(names.len() > 100, "only {} tests are named", names.len());
    let is_there = |name: &str| {
        let mut modules: Vec<_> = name.split("::").collect();
        let wanted = modules.pop().unwrap_or_default();
        tests.iter().any(|(found, test)| {
            (wanted == "*" || wanted == test) && found.windows(modules.len()).any(|window| window == modules)
        })
    };
    let missing: Vec<_> = names.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "docs/semantics.md names tests that are not there: {missing:#?}");
    Ok(())
}
