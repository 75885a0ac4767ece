//! Which cases of a test program its command line chooses.

/// Parts of names; a case is chosen if its name has one of them, or if there are none.
pub struct Choice(Vec<String>);

impl Choice {
    /// What is left of the command line. Options are for the runner that this one replaces.
    pub fn of(words: &[&str]) -> Self {
        let parts = words.iter().filter(|word| !word.starts_with('-'));
        Self(parts.map(|part| (*part).to_owned()).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.is_everything() || self.0.iter().any(|part| name.contains(part))
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Says that no case was chosen.
    pub fn report_nothing(&self) {
        eprintln!("no case has any of {:?} in its name", self.0);
    }
}
