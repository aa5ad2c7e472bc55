//! What a rename does with what has the new name.

/// What a rename does with what has the new name, as renameat2(2) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RenameMode {
    /// It goes in the same step.
    #[default]
    Replace,
    /// The rename is refused when there is something.
    NoReplace,
    /// It gets the old name in the same step; there must be something.
    Exchange,
}
