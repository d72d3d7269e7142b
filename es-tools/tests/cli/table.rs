//! `es table`: creation, verification, and the reset, which needs a confirmation.

use serde_json::json;

use crate::support::Place;

#[tokio::test]
async fn a_table_is_created_verified_and_reset() {
    let place = Place::new("table");
    let missing = place.es(&["table", "verify"]).fails(1);
    assert!(missing.contains("does not exist: create it with `table create`"), "{missing}");
    assert!(!place.path("events.db").exists(), "only `create` creates a file");

    let dry = place.es(&["--dry-run", "table", "create"]).succeeds();
    assert_eq!(dry, "would create the table `events`, or verify it if it exists\n");
    assert!(!place.path("events.db").exists(), "a dry run changes nothing");

    let created = place.es(&["table", "create", "--slices", "2"]).succeeds();
    assert_eq!(created, "the table `events` is ready; its feed has 2 slices\n");
    place.es(&["table", "create"]).succeeds();
    let verified = place.es(&["table", "verify", "--json"]).json();
    assert_eq!(verified, json!({ "table": "events", "slices": 2 }));

    place.deposit("ann", &[1]).await;
    let unconfirmed = place.es(&["table", "reset"]).fails(4);
    assert!(unconfirmed.contains("delete the table `events` with all its events"), "{unconfirmed}");
    assert!(unconfirmed.contains("pass --yes"), "{unconfirmed}");
    place.es(&["--dry-run", "--yes", "table", "reset"]).succeeds();
    place.es(&["stream", "show", "account#ann"]).succeeds();

    let reset = place.es(&["table", "reset", "--yes", "--slices", "4"]).succeeds();
    assert_eq!(reset, "the table `events` is empty; its feed has 4 slices\n");
    let gone = place.es(&["stream", "show", "account#ann"]).fails(1);
    assert!(gone.contains("the stream `account#ann` has no events"), "{gone}");
}

#[tokio::test]
async fn a_table_of_another_shape_is_a_finding() {
    let place = Place::new("shape");
    place.store().await;
    let other = place.es(&["--table", "others", "table", "verify"]).exits(3);
    assert!(other.contains("the table `others` does not exist"), "{other}");
    // A name that DynamoDB does not allow is an error, not a finding.
    let invalid = place.es(&["--table", "a", "table", "verify"]).fails(1);
    assert!(invalid.contains("is not a valid name of a table"), "{invalid}");
}

/// The actions of a service in a template, in order.
fn actions_of<'a>(service: &str, template: &'a str) -> Vec<&'a str> {
    let words = template.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == ':'));
    words.filter(|word| word.split_once(':').is_some_and(|(prefix, _)| prefix == service)).collect()
}

fn actions(template: &str) -> Vec<&str> {
    actions_of("dynamodb", template)
}

#[test]
fn templates_permit_what_the_book_says() {
    let book = include_str!("../../../docs/src/operations.md");
    let policy = book.split("```json\n").find(|block| block.contains("\"Statement\"")).expect("a policy");
    let mut expected = actions(policy.split("```").next().expect("a block"));
    expected.sort_unstable();
    expected.dedup();

    let place = Place::new("template");
    for language in ["cloudformation", "terraform"] {
        let template = place.es(&["--table", "orders", "table", "template", language]).succeeds();
        assert!(template.contains("orders") && template.contains("NEW_IMAGE"), "{template}");
        let mut all = actions(&template);
        all.sort_unstable();
        assert_eq!(all, expected, "{language}");
        let verify = ["table", "template", language, "--features", "verify"];
        let template = place.es(&verify).succeeds();
        assert!(
            !template.contains("/stream/") && !actions(&template).contains(&"dynamodb:PutItem"),
            "{template}"
        );
    }
    for language in ["cloudformation", "terraform"] {
        let template = |features| {
            place.es(&["--table", "orders", "table", "template", language, "--features", features]).succeeds()
        };
        let environment = template("application,personal-data,key-rotation");
        assert!(
            environment.contains("orders-keys") && environment.contains("dynamodb:Scan"),
            "{environment}"
        );
        assert!(!environment.contains("kms:"), "{environment}");
        let kms = template("kms");
        assert!(
            kms.contains("kms:GenerateDataKey") && kms.contains("kms:EncryptionContext:es:table"),
            "{kms}"
        );
        assert!(
            !kms.contains("kms:Encrypt\n") && !kms.contains("\"kms:Encrypt\""),
            "only a rotation encrypts: {kms}"
        );
        assert!(template("kms,key-rotation").contains("kms:Encrypt"));
    }
    let json = place.es(&["--json", "table", "template", "terraform"]).json();
    assert!(json["template"].as_str().expect("a text").starts_with("variable "));
}

/// The policies in the chapter on publishing.
#[test]
fn templates_permit_publishing_as_the_book_says() {
    let book = include_str!("../../../docs/src/publishing.md");
    let place = Place::new("template-publishing");
    for (feature, service, parameter, variable) in [
        ("eventbridge", "events", "EventBusArn", "event_bus_arn"),
        ("kinesis", "kinesis", "DataStreamArn", "data_stream_arn"),
        ("sns", "sns", "TopicArn", "topic_arn"),
        ("sqs", "sqs", "QueueArn", "queue_arn"),
    ] {
        let resource = format!("arn:aws:{service}:REGION:ACCOUNT:");
        let policies = book.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
        let [policy] = policies.filter(|policy| policy.contains(&resource)).collect::<Vec<_>>()[..] else {
            panic!("the book has one policy for {service}");
        };
        let mut expected = actions_of(service, policy);
        expected.sort_unstable();
        for (language, reference) in [
            ("cloudformation", format!("Resource: !Ref {parameter}")),
            ("terraform", format!("Resource = var.{variable}")),
        ] {
            let template = place.es(&["table", "template", language, "--features", feature]).succeeds();
            assert_eq!(actions_of(service, &template), expected, "{language}");
            assert!(template.contains(&reference), "{template}");
            assert_eq!(actions(&template), [""; 0], "{language}");
        }
    }
}

#[tokio::test]
async fn protected_tables_are_not_reset() {
    let place = Place::new("protected");
    let store = place.store().await;
    let protect = |on| store.client().update_table().table_name("events").deletion_protection_enabled(on);
    protect(true).send().await.expect("answers");
    let refused = place.es(&["table", "reset", "--yes"]).fails(1);
    assert!(refused.contains("it has deletion protection: turn it off"), "{refused}");
    protect(false).send().await.expect("answers");
    place.es(&["table", "reset", "--yes"]).succeeds();
}
