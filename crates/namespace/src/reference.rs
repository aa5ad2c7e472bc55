//! The namespace against a plain model of it in memory, with restarts, lost commits and batches of any size in between.

mod changes;
mod changing;
mod check;
mod dirty;
mod keys;
mod links;
mod model;
mod moving;
mod persisting;
mod released;
mod relocations;
mod renames;
mod seen;
mod steps;
mod trees;

use headpond_journal::{Position, StateMachine};
use proptest::prelude::*;

use self::{
    model::{Kind, Model},
    steps::{Step, command, steps},
};
use crate::{Command, Namespace, ObservedKind, Outcome};

fn open(dir: &std::path::Path) -> Namespace {
    Namespace::open(dir, 1 << 22).expect("opens")
}

fn apply_from(namespace: &Namespace, history: &[(Command, Outcome)], index: usize) -> Outcome {
    let at = Position { term: 1, index: index as u64 + 1 };
    namespace.apply(at, &[&history[index].0]).expect("applies").remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_namespace_is_what_the_model_is(steps in steps()) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut namespace = open(dir.path());
        let mut model = Model::new();
        let mut history: Vec<(Command, Outcome)> = Vec::new();
        for (step, number) in steps.iter().zip(1..) {
            let Some(command) = command(step, &model, number) else {
                if !matches!(step, Step::Reopen { .. }) {
                    continue;
                }
                if matches!(step, Step::Reopen { durable: true }) {
                    namespace.make_durable().expect("is durable");
                }
                drop(namespace);
                namespace = open(dir.path());
                let applied = namespace.applied().expect("reads").map_or(0, |at| at.index);
                let applied = usize::try_from(applied).expect("fits");
                for index in applied..history.len() {
                    prop_assert_eq!(&apply_from(&namespace, &history, index), &history[index].1);
                }
                model.check(&namespace.snapshot().expect("a snapshot"));
                continue;
            };
            let expected = model.apply(&command);
            history.push((command, expected.clone()));
            let outcome = apply_from(&namespace, &history, history.len() - 1);
            prop_assert_eq!(outcome, expected, "{:?}", history.last().expect("is there").0);
            model.check(&namespace.snapshot().expect("a snapshot"));
        }
        let mut index = history.len() as u64;
        while let Some(tree) = model.removed.keys().next() {
            let relocation = model.relocation_at(*tree).expect("what is being removed has a relocation");
            let command = Command::EndRelocation { relocation };
            let expected = model.apply(&command);
            index += 1;
            let outcome = namespace.apply(Position { term: 1, index }, &[&command]).expect("applies");
            prop_assert_eq!(outcome, [expected]);
            model.check(&namespace.snapshot().expect("a snapshot"));
        }
        while namespace.snapshot().expect("a snapshot").has_remains() {
            index += 1;
            namespace.apply(Position { term: 1, index }, &[&Command::Sweep]).expect("applies");
        }
        let counts = namespace.snapshot().expect("a snapshot").counts().expect("reads");
        let bytes = model.nodes.values().map(|node| match &node.kind {
            Kind::File(ObservedKind::File { size, .. }) => *size,
            _ => 0,
        });
        prop_assert_eq!((counts.inodes, counts.file_bytes), (model.nodes.len() as u64, bytes.sum::<u64>()));
        prop_assert_eq!(counts.dirty, model.all_dirty().len() as u64);
    }

    #[test]
    fn rows_do_not_depend_on_how_commands_are_batched(steps in steps(), cuts in proptest::collection::vec(1..6usize, 60)) {
        let mut model = Model::new();
        let mut commands = Vec::new();
        for (step, number) in steps.iter().zip(1..) {
            if let Some(command) = command(step, &model, number) {
                model.apply(&command);
                commands.push(command);
            }
        }
        let run = |sizes: &mut dyn Iterator<Item = usize>| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let namespace = open(dir.path());
            let (mut rest, mut index) = (&commands[..], 0);
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                index += 1;
                namespace.apply(Position { term: 1, index }, &batch.iter().collect::<Vec<_>>()).expect("applies");
                rest = after;
            }
            (namespace.rows(), namespace.snapshot().expect("a snapshot").counts().expect("reads"))
        };
        prop_assert_eq!(run(&mut std::iter::repeat(1)), run(&mut cuts.iter().copied()));
    }
}
