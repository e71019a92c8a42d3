//! The command line as a new user meets it: every mistake at once, each port in use by its name, and help that helps.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use foreshade_tests::certificates::Folder;
use foreshade_tests::proxy::{binary, free_address, root};

fn run(arguments: &[&str]) -> Output {
    Command::new(binary("foreshade-proxy"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("it runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_well_configuration_is_said_to_be_well() {
    let output = run(&["check", "--config", "configs/quickstart.yaml"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("8 endpoints"));
}

#[test]
fn a_key_that_others_can_read_is_warned_of_and_a_certificate_that_is_missing_is_a_mistake() {
    let folder = Folder::new();
    let files = folder.authority("ca").issue("shop", &["shop.example"]);
    let text = format!(
        "apiVersion: foreshade/v1\nlisteners:\n  - name: web\n    address: 127.0.0.1:8443\n    tls: {{ certificates: \
         [{}] }}\n    routes: [{{ cluster: shop }}]\nclusters:\n  - name: shop\n    endpoints: [{{ name: a, address: \
         \"127.0.0.1:9\" }}]\n",
        files.as_yaml()
    );
    let config = folder.file("foreshade.yaml", text);
    let check = || run(&["check", "--config", config.to_str().unwrap()]);
    let well = check();
    assert!(
        well.status.success() && stderr(&well).is_empty(),
        "{}",
        stderr(&well)
    );
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = check();
    assert!(
        warned.status.success() && stderr(&warned).contains("warning: "),
        "{}",
        stderr(&warned)
    );
    std::fs::remove_file(&files.certificate).unwrap();
    let missing = check();
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("foreshade.yaml:5:")
            && stderr(&missing).contains("shop.pem cannot be read")
    );
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["run", "--config", "configs/no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("configs/no-such-file.yaml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_listener_and_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = std::env::temp_dir().join(format!("foreshade-port-{}.yaml", std::process::id()));
    let free = free_address();
    for (users, admin, who) in [(address, free, "web"), (free, address, "admin")] {
        std::fs::write(
            &file,
            format!(
                "apiVersion: foreshade/v1\nadmin: {{ address: \"{admin}\" }}\nlisteners:\n  - name: web\n    address: \
                 \"{users}\"\n    routes: [{{ cluster: shop }}]\nclusters:\n  - name: shop\n    endpoints: [{{ name: a, \
                 address: \"127.0.0.1:9\" }}]\n"
            ),
        )
        .unwrap();
        let output = run(&["run", "--config", file.to_str().unwrap()]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(who) && said.contains(&address.to_string()) && said.contains("in use"),
            "{said}"
        );
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let output = run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["properties"]["listeners"].is_object(), "{schema}");
}

#[test]
fn explain_says_which_route_and_why_and_fails_where_there_is_none() {
    let folder = Folder::new();
    let reference = std::fs::read_to_string(root().join("configs/reference.yaml")).unwrap();
    let config = folder.file("reference.yaml", folder.furnish(&reference));
    let config = config.to_str().unwrap();
    let ask =
        |url: &str, more: &[&str]| run(&[&["explain", "--config", config, "--url", url], more].concat());
    let robots = ask("http://shop.example:8080/./robots.txt", &["--json"]);
    assert!(robots.status.success(), "{}", stderr(&robots));
    let said: serde_json::Value = serde_json::from_slice(&robots.stdout).expect("JSON");
    assert_eq!(said["outcome"]["answer"]["status"], 200, "{said}");
    assert_eq!(said["path"], "/robots.txt");
    let beta = [
        "--header",
        "X-Beta: 1",
        "--header",
        "Accept-Language: en",
        "--client",
        "192.0.2.7",
    ];
    let beta = ask("http://a.shop.example/v2/x?view=full", &beta);
    let text = String::from_utf8_lossy(&beta.stdout).into_owned();
    assert!(
        text.contains("route      tomorrow (line ") && text.contains("by host"),
        "{text}"
    );
    assert!(
        text.contains("asks for   /latest/x?view=full") && text.contains("among    shop with 80.0%"),
        "{text}"
    );
    assert_eq!(ask("http://shop.example/a%2fb", &[]).status.code(), Some(1));
    assert_eq!(ask("ftp://shop.example/", &[]).status.code(), Some(2));
}

#[test]
fn help_names_every_command_and_wrong_usage_is_exit_code_2() {
    let help = run(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(
        ["run", "check", "schema", "explain"]
            .iter()
            .all(|c| text.contains(c)),
        "{text}"
    );
    assert_eq!(run(&["dance"]).status.code(), Some(2));
}
