//! What a TOML file may hold, what is said of what it may not, and what a change leaves.

use std::path::Path;

use super::{Error, Form, load, parse, update, updated};
use crate::env::{API_URL, GATEWAY_NAME, JWT, TABLE, TARGETS_ALLOW, TARGETS_DENY, TOKEN};
use crate::secret::Secret;

fn mistakes(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err(text);
    assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_assignment_tells_the_form() {
    for (text, form) in [
        ("", Form::KeyValue),
        ("# token = \"a\"\n", Form::KeyValue),
        ("hunter2\n", Form::KeyValue),
        ("INFISICAL_TOKEN=a\ntoken = \"a\"\n", Form::KeyValue),
        ("\n; x\n export INFISICAL_TOKEN=a\n", Form::KeyValue),
        ("TOKEN=a\n", Form::KeyValue),
        ("# INFISICAL_TOKEN=a\ntoken = \"a\"\n", Form::Toml),
        ("\u{feff}token=\"a\"\nINFISICAL_TOKEN=a\n", Form::Toml),
        ("\"token\" = \"a\"\n", Form::Toml),
        ("[gateway]\nINFISICAL_TOKEN=a\n", Form::KeyValue),
        ("[gateway]\ntoken = \"a\"\n", Form::Toml),
        ("[gateway]\n", Form::Toml),
        ("infisical_token=a\n", Form::KeyValue),
    ] {
        assert_eq!(Form::of(text), form, "{text:?}");
    }
}

#[test]
fn every_setting_has_keys_in_both_forms() {
    for variable in TABLE {
        for form in [Form::KeyValue, Form::Toml] {
            let text = format!("\n{} = \"a b\"\n", form.spell(variable));
            let entries = parse(&text).expect(&text);
            let found: Vec<_> = entries.iter().map(|e| (e.line, e.key, e.form)).collect();
            assert_eq!(found, [(2, *variable, form)]);
            assert_eq!(entries[0].value, Secret::new("a b"));
        }
    }
}

#[test]
fn strings_of_every_kind_are_read() {
    let text = "\u{feff}# mine\r\ntoken = \"a \\\"b\\\" \\u00e9\" # why\r\napi_url='c:\\d'\r\n\
                jwt = \"\"\"\r\ne\"\"\"\r\ngateway_name = '''f'''";
    let entries = parse(text).expect("a file");
    let found: Vec<_> = entries
        .iter()
        .map(|e| (e.line, e.key.name, e.value.expose()))
        .collect();
    let expected = [
        (2, "INFISICAL_TOKEN", "a \"b\" é"),
        (3, "INFISICAL_API_URL", "c:\\d"),
        (4, "INFISICAL_JWT", "e"),
        (6, "INFISICAL_GATEWAY_NAME", "f"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn all_toml_mistakes_are_reported_without_values() {
    let text = "token = \"hunter2\"\ntoken = \"hunter2\"\ngateway_nmae = \"hunter2\"\nrelay_name = 5\n\
                INFISICAL_API_URL=https://hunter2\nexport INFISICAL_JWT='hunter2'\ndomain = \"hunter2\"\n\
                relay_host = hunter2\nrelay_type = \"hunter2\n\"relay_id\" = [\"hunter2\"]\nhunter2\n\
                gateway_id = \"a\\nb\"\n\"hunter2 x\" = \"hunter2\"\n[gateway]\nlog_file = false\n\
                log_levl = \"hunter2\"\n[relay.eu]\n";
    let expected = [
        "line 2: token is already set on line 1",
        "line 3: unknown key gateway_nmae, did you mean gateway_name?",
        "line 4: relay_name must be a string in quotes, not an integer",
        "line 5: this file is TOML, where INFISICAL_API_URL is spelled api_url",
        "line 6: this file is TOML, where INFISICAL_JWT is spelled jwt",
        "line 7: domain is called api_url here",
        "line 8: relay_host: string values must be quoted, expected literal string",
        "line 9: relay_type: invalid basic string, expected `\"`",
        "line 10: relay_id must be a string in quotes, not an array",
        "line 11: key with no value, expected `=`",
        "line 12: gateway_id holds a control character",
        "line 13: unknown key",
        "line 14: keys stand alone: no [header] but [targets], and no dots in other keys",
        "line 15: log_file must be a string in quotes, not a boolean",
        "line 16: unknown key log_levl, did you mean log_level?",
        "line 17: keys stand alone: no [header] but [targets], and no dots in other keys",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn other_forms_key_gets_its_spelling() {
    let text = "INFISICAL_TOKEN=hunter2\ntoken = \"hunter2\"\nDOMAIN=hunter2\nc2hunter2Q=\n\
                INFISICAL_TOKENN=hunter2\nINFISICAL_ALLOWED_TARGETS=hunter2\nNODE_EXTRA_CA_CERTS=hunter2\n\
                INFISICAL_TLS_MODE=hunter2\nGATEWAY_LISTEN=hunter2\nsome_thing=hunter2\n";
    let guarded =
        "keys about targets, policy, TLS, CAs and addresses are not ignored; remove the line";
    let expected = [
        "line 2: this file is KEY=value, where token is spelled INFISICAL_TOKEN".to_owned(),
        "line 3: unknown key DOMAIN, did you mean INFISICAL_API_URL?".to_owned(),
        "line 4: unknown key".to_owned(),
        "line 5: unknown key INFISICAL_TOKENN, did you mean INFISICAL_TOKEN?".to_owned(),
        format!("line 6: unknown key INFISICAL_ALLOWED_TARGETS: {guarded}"),
        format!("line 7: unknown key NODE_EXTRA_CA_CERTS: {guarded}"),
        format!("line 8: unknown key INFISICAL_TLS_MODE: {guarded}"),
        format!("line 9: unknown key GATEWAY_LISTEN: {guarded}"),
        "line 10: unknown key some_thing".to_owned(),
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn invalid_toml_is_never_quoted() {
    let cases = [
        "token = hunter2",
        "token = 'hunter2",
        "token = \"\"\"hunter2\nhunter2\nhunter2",
        "token = '''hunter2\nhunter2",
        "token = \"a\" hunter2",
        "token = \"\\hunter2\"",
        "token = \"\\uhunter2\"",
        "token = 2020-13-45hunter2",
        "token = 0xhunter2",
        "token = 1hunter2",
        "token = [\"hunter2\"",
        "token = {hunter2}",
        "token.hunter2 = 1\ntoken = \"hunter2\"",
        "token = \"hunter2\"\ntoken.hunter2 = 1",
        "token = 'a'\n[hunter2",
        "token = 'a'\n[hunter2 hunter2]",
        "token = 'a'\nhunter2 hunter2",
        "token = 'hunter2\u{7}'",
        "token = 'a' # hunter2\u{7}",
    ];
    for text in cases {
        let found = mistakes(text);
        assert!(!found.is_empty() && found.len() <= 3, "{text:?}: {found:?}");
    }
    let other = format!("token = \"a\"\n{}", "hunter2\n".repeat(1000));
    assert_eq!(mistakes(&other).len(), super::toml::MOST_SYNTAX_ERRORS);
}

#[test]
fn toml_change_keeps_every_other_byte() {
    let old = "# mine\r\n\r\n  token   =  'old'   # why\r\n\r\napi_url = \"a\"\r\n# the end";
    let (token, name) = (Secret::new("n\"e\\w"), Secret::new("edge-1"));
    let wanted = [(&TOKEN, &token), (&GATEWAY_NAME, &name)];
    let new = updated(Path::new("x"), old, &wanted).expect("changed");
    assert_eq!(
        *new,
        "# mine\r\n\r\n  token   =  \"n\\\"e\\\\w\"   # why\r\n\r\napi_url = \"a\"\r\n# the end\r\n\
         gateway_name = \"edge-1\"\r\n"
    );
    assert_eq!(updated(Path::new("x"), &new, &wanted).expect("again"), new);
}

#[test]
fn explicit_messages_keep_their_words() {
    let (token, url) = (Secret::new("a b"), Secret::new("new"));
    for (old, expected) in [
        (
            "export INFISICAL_TOKEN='a b'\nINFISICAL_API_URL=old",
            "export INFISICAL_TOKEN='a b'\nINFISICAL_API_URL=new",
        ),
        (
            "token = '''a b'''\napi_url = 5",
            "token = '''a b'''\napi_url = \"new\"",
        ),
    ] {
        let wanted = [(&TOKEN, &token), (&API_URL, &url)];
        let new = updated(Path::new("x"), old, &wanted).expect("changed");
        assert_eq!(*new, expected);
    }
}

#[test]
fn any_toml_value_is_read_back() {
    for value in [
        "",
        "a",
        "two words",
        "q\"'\\$`#",
        "=",
        "a # b",
        "é",
        "'''\"\"\"",
    ] {
        let value = Secret::new(value);
        let text = updated(Path::new("x"), "jwt = \"a\"\n", &[(&TOKEN, &value)]).expect("changed");
        let entries = parse(&text).expect("parsed");
        assert_eq!((entries[1].key, &entries[1].value), (&TOKEN, &value));
        assert_eq!(entries[0].key, &JWT);
    }
}

#[test]
fn wrong_toml_file_is_not_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.conf");
    for text in ["token = hunter2\n", "[gateway]\ntoken = \"a\"\n"] {
        std::fs::write(&path, text).expect("written");
        let error = update(&path, &[(&API_URL, &Secret::new("a"))]).expect_err(text);
        assert!(
            matches!(error, Error::Lines { ref lines, .. } if lines.len() == 1),
            "{error:?}"
        );
        assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
    }
    std::fs::write(&path, "token = \"a\"\n").expect("written");
    update(&path, &[(&TOKEN, &Secret::new("b"))]).expect("updated");
    assert_eq!(load(&path).expect("private")[0].value, Secret::new("b"));
}

#[test]
fn any_changed_text_is_read_back() {
    let pieces = [
        "token",
        "api_url",
        "INFISICAL_TOKEN",
        "INFISICAL_API_URL",
        " = ",
        "=",
        "\"a\"",
        "'b'",
        "\"\"\"c\n\"\"\"",
        "\n",
        "\r\n",
        "\n",
        "# é",
        "[",
        "]",
        "{",
        "}",
        ".",
        "5",
        "\\",
        "\u{feff}",
        "export ",
        ";",
        "token = \"a\"\n",
        "  'token'='''a''' # é\r\n",
        "api_url = 'b'\n",
        "relay_id = 5\n",
        "jwt = \"c\"",
        "\n# d\n\n",
        "export INFISICAL_TOKEN='a'\n",
        "INFISICAL_API_URL=b\r\n",
    ];
    let others = |text: &str| -> Vec<String> {
        let entries = super::read(text).entries;
        let other = |entry: &super::Entry| entry.key != &TOKEN;
        let show = |entry: super::Entry| format!("{}={}", entry.key.name, entry.value.expose());
        entries.into_iter().filter(other).map(show).collect()
    };
    let new_token = Secret::new("n \"e\\w$");
    let mut state = 1_u64;
    let mut below = |bound: usize| {
        // Knuth's MMIX generator: the same texts every time. Its low bits repeat soon.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % bound
    };
    let mut changed_at_all = [0, 0];
    for _ in 0..5_000 {
        let mut text = String::new();
        for _ in 0..below(8) {
            text.push_str(pieces[below(pieces.len())]);
        }
        let Ok(new) = updated(Path::new("x"), &text, &[(&TOKEN, &new_token)]) else {
            assert!(parse(&text).is_err(), "{text:?}");
            continue;
        };
        let token = super::read(&new).entries.into_iter();
        let token = token.filter(|entry| entry.key == &TOKEN);
        assert!(
            token.map(|entry| entry.value).eq([new_token.clone()]),
            "{text:?}: {new:?}"
        );
        assert_eq!(others(&new), others(&text), "{text:?}: {new:?}");
        changed_at_all[usize::from(Form::of(&text) == Form::Toml)] += 1;
    }
    assert!(
        changed_at_all.iter().all(|count| *count > 100),
        "{changed_at_all:?}"
    );
}

#[test]
fn words_of_flags_lead_to_keys() {
    let text = "domain = \"d\"\nname = \"n\"\ntarget-relay-name = \"r\"\n";
    let expected = [
        "line 1: domain is called api_url here",
        "line 2: unknown key name, did you mean gateway_name or relay_name?",
        "line 3: unknown key target-relay-name, did you mean relay_name?",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn targets_are_lists_in_a_table() {
    for text in [
        "token = \"t\"\n[targets]\nallow = [\n  \"10.0.0.0/8\", # net\n  \"db:1\",\n]\ndeny = [\"*:22\"]\n",
        "token = \"t\"\ntargets.allow = [\"10.0.0.0/8\", \"db:1\"]\ntargets.deny = \"*:22\"\n",
        "[targets]\nallow = \"10.0.0.0/8, db:1\"\ndeny = \"*:22\"\n",
    ] {
        let entries = parse(text).expect(text);
        let value = |key| {
            let found = entries.iter().find(|entry| entry.key == key);
            found.map(|entry| (entry.name.as_str(), entry.value.expose()))
        };
        let allow = value(&TARGETS_ALLOW);
        assert_eq!(allow, Some(("targets.allow", "10.0.0.0/8, db:1")), "{text}");
        let deny = value(&TARGETS_DENY);
        assert_eq!(deny, Some(("targets.deny", "*:22")), "{text}");
    }
}

#[test]
fn mistakes_of_targets_have_their_line() {
    for (text, mistake) in [
        (
            "[targets]\nallow = [1]\n",
            "line 2: targets.allow must be a string in quotes, not an integer",
        ),
        (
            "[targets]\nallowed = \"x\"\n",
            "line 2: unknown key targets.allowed, did you mean targets.allow?",
        ),
        (
            "targets_allow = \"x\"\n",
            "line 1: unknown key targets_allow, did you mean targets.allow?",
        ),
        (
            "token = [\"hunter2\"]\n",
            "line 1: token must be a string in quotes, not an array",
        ),
    ] {
        assert_eq!(mistakes(text), [mistake], "{text}");
    }
}

/// A token that is stored must not fall into the table.
#[test]
fn new_keys_stay_out_of_the_table() {
    let set = |variable, value| (variable, Secret::new(value));
    for (old, changes, new) in [
        (
            "api_url = \"a\"\n\n[targets]\ndeny = [\"x\"]\n",
            vec![set(&TOKEN, "t")],
            "api_url = \"a\"\n\ntoken = \"t\"\n[targets]\ndeny = [\"x\"]\n",
        ),
        (
            "[targets]\ndeny = [\"x\"]",
            vec![
                set(&TARGETS_ALLOW, "y"),
                set(&TARGETS_DENY, "z"),
                set(&TOKEN, "t"),
            ],
            "token = \"t\"\n[targets]\nallow = \"y\"\ndeny = \"z\"",
        ),
        (
            "targets.deny = [\"x\"]",
            vec![set(&TARGETS_ALLOW, "y"), set(&TOKEN, "t")],
            "targets.deny = [\"x\"]\ntargets.allow = \"y\"\ntoken = \"t\"\n",
        ),
        (
            "[targets]",
            vec![set(&TARGETS_ALLOW, "y")],
            "[targets]\nallow = \"y\"\n",
        ),
    ] {
        let borrowed: Vec<_> = changes.iter().map(|(key, value)| (*key, value)).collect();
        let changed = updated(Path::new("f"), old, &borrowed).expect(old);
        assert_eq!(changed.as_str(), new);
        let entries = parse(&changed).expect(new);
        for (key, value) in changes {
            let found = entries.iter().find(|entry| entry.key == key);
            assert_eq!(found.map(|entry| &entry.value), Some(&value), "{new}");
        }
    }
}
