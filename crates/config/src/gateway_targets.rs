//! What the settings of a gateway say of its targets.

use super::assemble::{Assembled, Inputs, Reader, assemble};
use super::env::{TARGETS_ALLOW, TARGETS_DENY, Variable};
use super::metrics::MetricsListen;
use super::role::GATEWAY;
use super::targets::{Rule, TargetPolicy};
use crate::names::GatewayName;

/// The part of a gateway's settings that says what it may dial; no credential and no name is
/// needed.
#[derive(Debug)]
pub struct GatewayTargets {
    /// Which targets its sessions may reach.
    pub targets: TargetPolicy,
    /// Where it serves metrics, and so listens itself.
    pub metrics: Option<MetricsListen>,
}

/// Makes that part of what was given.
///
/// # Errors
/// Everything that is wrong with it.
pub fn assemble_gateway_targets(inputs: &Inputs<'_>) -> Assembled<GatewayTargets> {
    assemble::<GatewayName, _>(inputs, &GATEWAY, |reader, store| {
        let common = reader.common(&GATEWAY, store);
        let targets = target_policy(reader);
        Some(GatewayTargets {
            targets,
            metrics: common?.metrics,
        })
    })
}

/// The policy for targets, empty where that is wrong.
pub(super) fn target_policy(reader: &mut Reader<'_>) -> TargetPolicy {
    let mut rules = |variable: &'static Variable| {
        reader.is_not_emptied(variable);
        reader
            .parsed(variable, Rule::parse_list)
            .unwrap_or_default()
    };
    TargetPolicy {
        allow: rules(&TARGETS_ALLOW),
        deny: rules(&TARGETS_DENY),
    }
}

#[cfg(test)]
mod tests {
    use crate::assemble_gateway;
    use crate::case::Case;
    use crate::env::{GATEWAY_NAME, Variable};
    use crate::targets::Rule;

    const NAME: (&Variable, &str, &str) = (&GATEWAY_NAME, "NAME", "edge");
    const FILE: &str = "/conf/edge.conf";

    #[test]
    fn lists_without_a_rule_are_refused() {
        for list in ["", " ", ",", " , "] {
            let case = Case {
                flags: &[NAME],
                variables: &[("INFISICAL_TARGETS_DENY", list)],
                file: Some((FILE, "INFISICAL_TOKEN=t\n")),
                ..Case::default()
            };
            let found = case.assemble(assemble_gateway).expect_err("no rule");
            let why = match list.trim() {
                "" => "the list is empty",
                _ => "it has no host",
            };
            assert!(found[0].contains(why), "{list:?}: {found:?}");
        }
    }

    #[test]
    fn wrong_target_rules_have_their_place() {
        for (file, problems) in [
            (
                "INFISICAL_TOKEN=t\nINFISICAL_TARGETS_DENY=10.0.0.1/8 db:0\n",
                &[
                    "INFISICAL_TARGETS_DENY in /conf/edge.conf line 2: rule 1 (10.0.0.1/8): the \
                   address has bits behind its prefix; write 10.0.0.0/8; rule 2 (db:0): \"0\" is no \
                   port from 1 to 65535, and no range such as 8000-8999",
                ][..],
            ),
            (
                "token = \"t\"\n[targets]\nallow = [\"127.1\"]\n",
                &[
                    "targets.allow in /conf/edge.conf line 3: rule 1 (127.1): write the IPv4 address \
                   as four decimal numbers",
                ],
            ),
            // It would allow everything.
            (
                "token = \"t\"\n[targets]\nallow = []\n",
                &[
                    "targets.allow in /conf/edge.conf line 3: the list is empty; remove it, or write \
                   * for every target",
                ],
            ),
        ] {
            let case = Case {
                flags: &[NAME],
                file: Some((FILE, file)),
                ..Case::default()
            };
            let found = case.assemble(assemble_gateway).expect_err(file);
            assert_eq!(found, problems);
        }
    }

    #[test]
    fn target_rules_come_from_file_and_environment() {
        let case = Case {
            flags: &[NAME],
            variables: &[("INFISICAL_TARGETS_DENY", "*:22")],
            file: Some((
                FILE,
                "token = \"t\"\n[targets]\nallow = [\"db:1\"]\ndeny = [\"x\"]\n",
            )),
            ..Case::default()
        };
        let (settings, _) = case.assemble(assemble_gateway).expect("settings");
        let texts = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&settings.targets.allow), ["db:1"]);
        assert_eq!(texts(&settings.targets.deny), ["*:22"]);
    }
}
