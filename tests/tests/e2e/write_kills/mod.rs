//! Processes killed while others write (P9): what was acknowledged is there with its bytes, nothing half is seen, and the bucket ends as the
//! namespace says.

mod relocations;

use std::time::Duration;

use headpond_tests::Behaviour;

/// Longer than any deadline: an answer that is held back for so long does not come.
const NEVER: Duration = Duration::from_secs(600);

/// Answers to requests by `method` whose target contains `only` do not come. The store has done what they ask for.
fn keeps_answers(method: &str, only: &str) -> Behaviour {
    Behaviour { first_byte: NEVER, method: method.to_owned(), only: only.to_owned(), ..Behaviour::default() }
}
