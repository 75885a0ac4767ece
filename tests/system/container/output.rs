//! What came of a command inside.

/// How a command inside ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(super) command: String,
    /// `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it wrote to standard output; fails if the command did.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.exits(0)
    }

    /// The same, of a command that must end with this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> String {
        assert_eq!(
            self.status,
            Some(code),
            "{}\n{}{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}
