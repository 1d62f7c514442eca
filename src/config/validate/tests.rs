//! Tests of the validation.

use std::path::Path;
use std::time::Duration;

use crate::config::error::{ConfigError, Warning};
use crate::config::sections::Config;

const GOOD: &str = "[instances.default]
        base_url = 'https://a.mktorest.com/rest'
        client_id = 'id'
        client_secret = 'hunter2'
        ";

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::read(Some((Path::new("m.toml"), text)), [])
}

/// Returns the error of the valid instance with `lines` below it.
fn error_of(lines: &str) -> String {
    match read(&format!("{GOOD}{lines}")) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn invalid_values_are_refused_with_their_key() {
    let long = format!("[api]\nsocket = '/{}'", "s".repeat(107));
    for (lines, message) in [
        ("[instances.default.limits]\nqueued = 12", "instances.default.limits.queued must be from 1 to 10, not 12"),
        (
            "[instances.default.limits]\nqueued = 1",
            "instances.default.limits.queued must be at least importing (2), not 1",
        ),
        ("[instances.default.limits]\nimporting = 3", "instances.default.limits.importing must be from 1 to 2, not 3"),
        ("[instances.default.limits]\nimporting = 0", "instances.default.limits.importing must be from 1 to 2, not 0"),
        (
            "[instances.default.limits]\nimporting = -1",
            "instances.default.limits.importing must be a whole number that is not negative, not integer `-1`",
        ),
        (
            "[instances.default.limits]\nupload_bytes = 10000001",
            "instances.default.limits.upload_bytes must be from 1000 to 10000000, not 10000001",
        ),
        ("[instances.default.limits]\ncalls = 101", "instances.default.limits.calls must be from 1 to 100, not 101"),
        (
            "[instances.default.limits]\nwindow = '9s'",
            "instances.default.limits.window is too short: with 50 calls in each window, 150 calls can fall into 20s, and Marketo allows 100",
        ),
        ("[instances.default.limits]\nwindow = '0s'", "instances.default.limits.window must be more than zero"),
        (
            "[instances.default.limits]\nconcurrent_calls = 11",
            "instances.default.limits.concurrent_calls must be from 1 to 10, not 11",
        ),
        (
            "[instances.default.limits]\ndaily_reset = '24:00'",
            "instances.default.limits.daily_reset must be a time of day in UTC from \"00:00\" to \"23:59:59\", not \"24:00\"",
        ),
        (
            "[instances.default.limits]\ndaily_reset = 6",
            "instances.default.limits.daily_reset must be text, such as \"06:00\", not 6",
        ),
        (
            "[instances.default.polling]\nmin = '31s'",
            "instances.default.polling.min must be at most max (30s), not 31s",
        ),
        ("[instances.default.polling]\nmin = '500ms'", "instances.default.polling.min must be at least 1s, not 500ms"),
        ("max_attempts = 0", "instances.default.max_attempts must be from 1 to 4294967295, not 0"),
        (
            "max_attempts = 1.5",
            "instances.default.max_attempts must be a whole number that is not negative, not floating point `1.5`",
        ),
        (
            "max_attempts = true",
            "instances.default.max_attempts must be a whole number that is not negative, not boolean `true`",
        ),
        (
            "max_attempts = '8'",
            "instances.default.max_attempts must be a whole number that is not negative, not string \"8\"",
        ),
        ("backoff_min = '0s'", "instances.default.backoff_min must be more than zero"),
        ("backoff_min = '6m'", "instances.default.backoff_min must be at most backoff_max (300s), not 360s"),
        ("backoff_max = 5", "instances.default.backoff_max must be text with a unit, such as \"20s\", not 5"),
        ("backoff_max = '5'", "instances.default.backoff_max must have a unit, such as \"5s\""),
        ("max_import_time = '0s'", "instances.default.max_import_time must be more than zero"),
        ("pack = 'yes'", "instances.default.pack must be true or false, not string \"yes\""),
        ("pack = 1", "instances.default.pack must be true or false, not integer `1`"),
        ("request_timeout = '999ms'", "instances.default.request_timeout must be at least 1s, not 999ms"),
        ("unknown_outcome = 'ask'", "instances.default.unknown_outcome must be `resubmit` or `hold`, not `ask`"),
        (
            "client_secret_file = '/s'",
            "instances.default.client_secret and instances.default.client_secret_file are both set: remove one",
        ),
        (
            "identity_url = 'http://a.example/identity'",
            "instances.default.identity_url must begin with https:// (http:// is allowed only for loopback addresses, as of a simulator)",
        ),
        ("[instances.EU]", "instances.EU must have a name of 1 to 64 lowercase letters, digits, _ and -"),
        (
            "[instances.rejected]",
            "instances.rejected must have another name: the drop folder keeps rejected files in a folder of this one",
        ),
        ("[instances.eu]", "instances.eu.base_url is missing"),
        (
            "[instances.eu]\nbase_url = 'https://a.example'",
            "instances.eu.client_id is missing: set it or instances.eu.client_id_file",
        ),
        (
            "instances = 1",
            "instances.default.instances is not a known key: expected one of `base_url`, `identity_url`, `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `unknown_outcome`, `max_attempts`, `backoff_min`, `backoff_max`, `request_timeout`, `max_import_time`, `pack`, `canary`, `max_failed_percent`, `limits`, `polling`",
        ),
        ("[retention]\nfiles = '0d'", "retention.files must be more than zero"),
        ("[retention]\nfailed_files = '0d'", "retention.failed_files must be more than zero"),
        (
            "[retention]\nflies = '7d'",
            "retention.flies is not a known key: expected one of `files`, `failed_files`, `reports`, `jobs`",
        ),
        (
            "[api]\nclients = [{client_id = 'crm', client_secret = 's', access = 'none'}]",
            "api.clients[0].access must be `write` or `read`, not `none`",
        ),
        ("[store]\npath = ''", "store.path must not be empty"),
        ("[store]\npath = 7", "store.path must be text, not integer `7`"),
        (
            "[store]\nreserve_bytes = 9000000000000",
            "store.reserve_bytes must be from 0 to 1099511627776, not 9000000000000",
        ),
        (
            "[notify]\nurl = 'http://hooks.example'",
            "notify.url must begin with https:// (http:// is allowed only for loopback addresses, as of a simulator)",
        ),
        (
            "[notify]\nurl = 'https://a.example'\ncommand = ['x']",
            "notify.url and notify.command are both set: remove one",
        ),
        ("[notify]\ncommand = ['']", "notify.command must begin with the name of a program"),
        (
            "[notify]\ncommand = ['x']\nsecret = 's'",
            "notify.secret needs notify.url: only requests to a URL are signed",
        ),
        ("[notify]\nurl = 'https://a.example'\nsecret = ''", "notify.secret must not be empty"),
        ("[notify]\ntimeout = '1ms'", "notify.timeout must be at least 1s, not 1ms"),
        (
            "[stores]",
            "stores is not a known key: expected one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log`",
        ),
        ("[api]\nsocket_mode = 660", "api.socket_mode must be text, not integer `660`"),
        ("[api]\nsocket_mode = '0999'", "api.socket_mode must be octal digits from \"0000\" to \"0777\", not \"0999\""),
        ("[api]\nmax_connections = 0", "api.max_connections must be from 1 to 4294967295, not 0"),
        ("[api]\nidle_timeout = '9ms'", "api.idle_timeout must be at least 10ms, not 9ms"),
        ("[api]\nstall_timeout = 60", "api.stall_timeout must be text with a unit, such as \"20s\", not 60"),
        ("[api]\nmax_file_bytes = 0", "api.max_file_bytes must be from 1 to 9223372036854775807, not 0"),
        (&long, "api.socket is 108 bytes long; the path of a Unix socket has at most 107"),
        (
            "[api]\nlisten = '127.0.0.1:8437'",
            "api.listen needs at least one entry in [[api.clients]]: clients on TCP must authenticate",
        ),
        (
            "[api]\nlisten = '8437'",
            "api.listen must be an address and a port, such as \"127.0.0.1:8437\", not \"8437\"",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'",
            "api.clients[0].client_secret is missing: set it or api.clients[0].client_secret_file",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'y'",
            "api.clients[1].client_id is the same as that of an earlier entry: each client needs its own",
        ),
        ("[[api.clients]]\nclient_id = ''\nclient_secret = 'x'", "api.clients[0].client_id must not be empty"),
        (
            "[[api.clients]]\nid = 'a'",
            "api.clients[0].id is not a known key: expected one of `client_id`, `client_id_file`, `client_secret`, `client_secret_file`, `instances`, `instance`, `access`",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = ['default', 'eu']",
            "api.clients[0].instances has \"eu\", which is not a configured instance: those are default",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = []",
            "api.clients[0].instances must not be empty: remove the key to allow all instances",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstances = 'default'",
            "api.clients[0].instances must be a list, not string",
        ),
        (
            "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'\ninstance = 'eu'",
            "api.clients[0].instance is \"eu\", which the client may not use: it may use default",
        ),
        ("[api]\ntls_cert = '/c'\ntls_key = '/k'", "api.tls_cert needs api.listen: TLS is used only on TCP"),
        (
            "[api]\nlisten = '127.0.0.1:1'\ntls_cert = '/c'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'",
            "api.tls_cert needs api.tls_key, the certificate's private key",
        ),
        (
            "[api]\nlisten = '127.0.0.1:1'\ntls_key = '/k'\n[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'",
            "api.tls_key needs api.tls_cert, the key's certificate",
        ),
        ("[drop]\npath = ''", "drop.path must not be empty"),
        ("[drop]\nsettle = '1ms'", "drop.settle must be from 10ms to 1d, not 1ms"),
        ("[drop]\nsettle = '2d'", "drop.settle must be from 10ms to 1d, not 172800s"),
        ("[drop]\nsettle = 5", "drop.settle must be text with a unit, such as \"20s\", not 5"),
        ("[log]\nlevel = 'loud'", "log.level must be one of `error`, `warn`, `info`, `debug`, `trace`, not `loud`"),
        ("[log]\nformat = 'xml'", "log.format must be `text` or `json`, not `xml`"),
    ] {
        assert_eq!(error_of(lines), format!("{message} (in m.toml)"));
    }
}

#[test]
fn packing_beside_a_canary_gives_a_warning() {
    for (lines, expected) in
        [("pack = true\ncanary = 5", 1), ("pack = true", 0), ("canary = 5", 0), ("pack = true\ncanary = 0", 0)]
    {
        let warnings = read(&format!("{GOOD}\n{lines}")).unwrap().warnings;
        assert_eq!(warnings.len(), expected, "{lines}: {warnings:?}");
    }
}

#[test]
fn default_instance_of_a_client_is_resolved() {
    for (lines, instance, warns) in [
        ("", "default", true),
        ("instance = 'us'", "us", false),
        ("instances = ['eu']", "eu", false),
        ("instances = ['eu', 'eu']", "eu", false),
        ("instances = ['eu', 'us']", "default", true),
        ("instances = ['eu', 'us']\ninstance = 'us'", "us", false),
        ("instances = ['default', 'us']\ninstance = 'default'", "default", false),
    ] {
        let more =
            |name| format!("[instances.{name}]\nbase_url='https://{name}.example'\nclient_id='i'\nclient_secret='s'\n");
        let client = format!("[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'\n{lines}");
        let config = read(&format!("{GOOD}{}{}{client}", more("eu"), more("us"))).unwrap();
        assert_eq!(config.api.clients[0].instance, instance, "{lines}");
        let named = |warning: &&Warning| warning.text.contains("client crm may use several instances");
        assert_eq!(config.warnings.iter().filter(named).count(), usize::from(warns), "{lines}");
    }
    // With one instance there is nothing to mistake.
    let one = read(&format!("{GOOD}[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'")).unwrap();
    assert_eq!((one.api.clients[0].instance.as_str(), one.warnings.len()), ("default", 0));
    let both = "instances = ['eu']\ninstance = 'us'";
    let client = format!("[[api.clients]]\nclient_id = 'crm'\nclient_secret = 'x'\n{both}");
    let eu = "[instances.eu]\nbase_url='https://eu.example'\nclient_id='i'\nclient_secret='s'\n";
    let error = read(&format!("{GOOD}{eu}{client}")).unwrap_err().to_string();
    assert!(
        error.contains("api.clients[0].instance is \"us\", which the client may not use: it may use eu"),
        "{error}"
    );
}

#[test]
fn an_address_beyond_this_machine_needs_tls_or_permission() {
    let config = |api: &str| {
        let client = "[[api.clients]]\nclient_id = 'a'\nclient_secret = 'x'";
        read(&format!("{GOOD}[api]\n{api}\n{client}"))
    };
    let of = |api: &str| config(api).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let tls = "tls_cert = '/c'\ntls_key = '/k'";
    for address in ["0.0.0.0:8437", "[::]:8437", "10.0.0.1:8437"] {
        let message = format!("api.listen is {address}, which other machines can reach");
        let refused = config(&format!("listen = '{address}'")).unwrap_err().to_string();
        assert!(refused.starts_with(&message), "{refused}");
        assert!(refused.contains("api.plaintext_beyond_loopback = true"), "{refused}");
        let allowed = of(&format!("listen = '{address}'\nplaintext_beyond_loopback = true"));
        assert!(allowed.starts_with(&message), "{allowed}");
        assert_eq!(of(&format!("listen = '{address}'\n{tls}")), "");
    }
    for address in ["127.0.0.1:8437", "127.9.9.9:1", "[::1]:8437"] {
        assert_eq!(of(&format!("listen = '{address}'")), "");
    }
}

#[test]
fn a_file_without_an_instance_is_refused_with_advice() {
    let message =
        "instances is empty: add at least [instances.default] with base_url, client_id and client_secret_file";
    assert_eq!(Config::read(None, []).unwrap_err().to_string(), message);
    assert_eq!(read("log = 1").unwrap_err().to_string(), "log must be a table, not integer (in m.toml)");
}

#[test]
fn invalid_toml_is_named_by_its_line_and_not_quoted() {
    let error = error_of("client_secret_file = 'hunter2\n");
    assert!(error.starts_with("m.toml:5: not valid TOML: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn no_message_shows_a_secret_of_a_wrong_type() {
    for secret in ["4711", "[4711]", "{x = 4711}", "4711.0"] {
        let text =
            format!("[instances.default]\nbase_url = 'https://a.example'\nclient_id = 'i'\nclient_secret = {secret}");
        let message = read(&text).unwrap_err().to_string();
        assert_eq!(message, "instances.default.client_secret must be text, in quotes (in m.toml)");
    }
}

#[test]
fn no_message_shows_a_secret_without_an_instance() {
    for secret in ["'4711'", "4711", "4711.0"] {
        let message = read(&format!("instances.client_secret = {secret}")).unwrap_err().to_string();
        assert!(message.starts_with("instances.client_secret must be a table, not "), "{message}");
        assert!(!message.contains("4711"), "{message}");
    }
}

#[test]
fn a_configuration_shows_no_secret_when_it_is_printed() {
    let config = read(GOOD).unwrap();
    assert_eq!(config.instances["default"].client_secret.expose(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_simulator_may_be_called_and_polled_at_any_rate() {
    let text = "[instances.default]
            base_url = 'http://127.0.0.1:9000'
            client_id = 'id'
            client_secret = 's'
            limits = {calls = 5000, window = '100ms'}
            polling = {min = '1ms', max = '20ms'}";
    let config = read(text).unwrap();
    assert_eq!(config.instances["default"].limits.calls, 5000);
    assert_eq!(config.instances["default"].polling.min, Duration::from_millis(1));
    assert_eq!(config.instances["default"].identity_url, "http://127.0.0.1:9000/identity");
}

#[test]
fn windows_within_marketos_rate_are_accepted() {
    for limits in ["calls = 100", "calls = 50\nwindow = '10s'", "calls = 5\nwindow = '1s'", "window = '1h'"] {
        assert_eq!(error_of(&format!("[instances.default.limits]\n{limits}")), "nothing", "{limits}");
    }
}

#[test]
fn a_wrong_variable_is_reported_by_its_name_alone() {
    let error_of = |variable: &str, value: &str| {
        Config::read(Some((Path::new("m.toml"), GOOD)), [(variable.to_owned(), value.to_owned())])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error_of("MARQUEUE_INSTANCES__DEFAULT__LIMITS__QUEUED", "12"),
        "instances.default.limits.queued must be from 1 to 10, not 12 \
             (set by MARQUEUE_INSTANCES__DEFAULT__LIMITS__QUEUED)"
    );
    assert_eq!(
        error_of("MARQUEUE_NO_COLOR", "1"),
        "no_color is not a known key: expected one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log` \
             (set by MARQUEUE_NO_COLOR)"
    );
    assert_eq!(
        error_of("MARQUEUE_RETENTION__FILES", "7"),
        "retention.files must have a unit, such as \"7s\" (set by MARQUEUE_RETENTION__FILES)"
    );
    assert_eq!(error_of("MARQUEUE_API", "x"), "api must be a table, not string (set by MARQUEUE_API)");
    assert_eq!(
        error_of("MARQUEUE_STOER__PATH", "x"),
        "stoer is not a known key: expected one of `store`, `retention`, `api`, `drop`, `instances`, `notify`, `log` \
             (set by MARQUEUE_STOER__PATH)"
    );
}
