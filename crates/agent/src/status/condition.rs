//! What can be wrong with a role that runs: one catalogue, from which the status line, `infisical
//! gateway status` and docs/troubleshooting.md are made.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How bad a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The role serves, and something needs attention.
    Warning,
    /// The role does not serve, or will soon not serve any more.
    Critical,
}

/// A row of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    /// A word that stays the same.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
    /// What it comes from.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// The condition that it follows from: while that one holds, this one is not shown.
    pub depends_on: Option<&'static Self>,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Which one.
    pub condition: &'static Condition,
    /// Since when.
    pub since: SystemTime,
    /// What was seen, an error for instance; may be empty.
    pub detail: String,
}

macro_rules! catalogue {
    ($($name:ident: $id:literal, $severity:ident, $title:literal,
       $cause:literal, $fix:literal $(, follows $other:ident)?;)*) => {
        $(
            #[doc = $title]
            pub static $name: Condition = Condition {
                id: $id,
                severity: Severity::$severity,
                title: $title,
                cause: $cause,
                fix: $fix,
                depends_on: catalogue!(@follows $($other)?),
            };
        )*
        /// Every condition.
        pub static CATALOGUE: &[&Condition] = &[$(&$name),*];
    };
    (@follows) => { None };
    (@follows $other:ident) => { Some(&$other) };
}

catalogue! {
    NO_TUNNEL: "no-tunnel", Critical, "no tunnel to a relay",
        "The platform issued no credentials, or the relay could not be reached or refused them; \
         the detail names the layer that failed.",
        "Run infisical gateway doctor, or do what the detail says; the gateway tries again by itself.";
    NOT_REGISTERED: "not-registered", Critical, "not registered with the platform",
        "The platform could not be reached or refused this relay; the detail says which.",
        "Check the relay's domain, proxy and credential; the relay tries again by itself.";
    NOT_REACHED: "not-reached", Critical, "Infisical does not reach it",
        "The platform answers, but its own connection through the relay did not arrive here.",
        "Open port 8443 of the relay's host to the platform, and check the relay's --host.",
        follows NO_TUNNEL;
    HEARTBEAT_UNANSWERED: "heartbeat-unanswered", Warning, "Infisical does not say that it reaches it",
        "The platform does not answer heartbeats, or refuses the token; sessions that arrive are served.",
        "Check the way to the platform, and the token if the detail says that it is refused.",
        follows NO_TUNNEL;
    NOT_RELOADED: "not-reloaded", Warning, "configuration not reloaded",
        "The configuration was read again and cannot be used; the one before is in use.",
        "Correct what the detail names, then reload the service.";
    NOT_UPGRADED: "not-upgraded", Warning, "the new version did not come up",
        "The process that was to take over did not get its tunnel up; the process before serves on.",
        "Correct what the detail names, then run infisical gateway upgrade once more.";
    RESTART_NEEDED: "restart-needed", Warning, "the new version needs a restart",
        "The process cannot hand over to another one; the detail says why.",
        "Restart the service when its sessions may be cut.";
    NOT_RENEWED: "not-renewed", Warning, "credentials not renewed",
        "The platform gave no new certificates; the old ones are in use until they expire.",
        "Check the way to the platform and the credential before the certificates expire.";
    EXPIRED: "expired", Critical, "certificates expired",
        "No new certificates arrived in time; new sessions are refused by their peers.",
        "Restore the way to the platform; renewal is tried again every few seconds.";
    CLOCK_SKEW: "clock-skew", Warning, "this machine's clock disagrees with the platform's",
        "The clock of this machine is wrong, or that of the platform.",
        "Set the clock, and let chrony or systemd-timesyncd keep it.";
}

impl Condition {
    /// True if `active` holds one that this one follows from.
    #[must_use]
    pub fn follows_from(&self, active: &[Active]) -> bool {
        self.depends_on
            .is_some_and(|other| active.iter().any(|active| active.condition == other))
    }
}

/// The catalogue as rows of a table in Markdown, for docs/troubleshooting.md.
#[must_use]
pub fn markdown() -> String {
    let mut table =
        String::from("| condition | severity | cause | what to do |\n| --- | --- | --- | --- |\n");
    for condition in CATALOGUE {
        let severity = match condition.severity {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let (id, title) = (condition.id, condition.title);
        let (cause, fix) = (condition.cause, condition.fix);
        table.push_str(&format!(
            "| {title} (`{id}`) | {severity} | {cause} | {fix} |\n"
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Active, CATALOGUE, NO_TUNNEL, NOT_REACHED, NOT_RELOADED};
    use std::collections::HashSet;
    use std::time::UNIX_EPOCH;

    #[test]
    fn ids_are_unique_words() {
        let ids: HashSet<_> = CATALOGUE.iter().map(|condition| condition.id).collect();
        assert_eq!(ids.len(), CATALOGUE.len());
        let is_word = |id: &&str| id.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(ids.iter().all(is_word), "{ids:?}");
    }

    #[test]
    fn consequence_follows_from_its_cause_only() {
        let active = [Active {
            condition: &NO_TUNNEL,
            since: UNIX_EPOCH,
            detail: String::new(),
        }];
        assert!(NOT_REACHED.follows_from(&active));
        assert!(!NOT_RELOADED.follows_from(&active));
        assert!(!NOT_REACHED.follows_from(&[]));
    }
}
