//! The template for AWS CloudFormation.

use std::collections::BTreeSet;

use crate::policy::{Actions, Broker};

/// Returns a template of the table, of those of the keys and the master key if they are needed, and of a managed
/// policy.
pub(super) fn template(table: &str, actions: &Actions) -> String {
    let has_keys = !actions.keys.is_empty();
    let keys_parameter = if has_keys { keys_parameter(table) } else { String::new() };
    let keys = if has_keys { KEYS } else { "" };
    let master_key = if actions.kms.is_empty() { "" } else { MASTER_KEY };
    let parameter = |broker: &Broker| {
        let Broker { id, name, .. } = broker;
        format!(
            "  {id}Arn:\n    Type: String\n    Description: The ARN of the {name} that receives the events\n"
        )
    };
    let bucket_parameter = if actions.bucket.is_empty() { "" } else { BUCKET_PARAMETER };
    let parameters: String = actions.brokers.iter().map(parameter).collect();
    let mut text = format!(
        r#"AWSTemplateFormatVersion: "2010-09-09"
Description: An event store, and the permissions of the processes that use it

Parameters:
  TableName:
    Type: String
    Default: {table}
    Description: The name of the table
    AllowedPattern: "[a-zA-Z0-9_.-]{{3,255}}"
{keys_parameter}{bucket_parameter}{parameters}
Resources:
  Events:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      TableName: !Ref TableName
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - AttributeName: pk
          AttributeType: S
        - AttributeName: sk
          AttributeType: S
      KeySchema:
        - AttributeName: pk
          KeyType: HASH
        - AttributeName: sk
          KeyType: RANGE
      StreamSpecification:
        StreamViewType: NEW_IMAGE
      TimeToLiveSpecification:
        AttributeName: ttl
        Enabled: true
      PointInTimeRecoverySpecification:
        PointInTimeRecoveryEnabled: true
      DeletionProtectionEnabled: true
{keys}{master_key}
  EventsPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: The least privilege for an event store
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
"#
    );
    if !actions.table.is_empty() {
        text.push_str(&statement("Table", &actions.table, "!GetAtt Events.Arn"));
    }
    if !actions.stream.is_empty() {
        // The stream has another name when it was turned off and on again.
        text.push_str(&statement("Stream", &actions.stream, "!Sub ${Events.Arn}/stream/*"));
    }
    if !actions.bucket.is_empty() {
        text.push_str(&statement("Bucket", &actions.bucket, "!Ref BucketArn"));
        text.push_str(&statement("Objects", &actions.objects, "!Sub ${BucketArn}/*"));
    }
    if has_keys {
        text.push_str(&statement("Keys", &actions.keys, "!GetAtt Keys.Arn"));
    }
    if !actions.kms.is_empty() {
        text.push_str(&statement("MasterKey", &actions.kms, "!GetAtt MasterKey.Arn"));
        text.push_str(OF_THE_KEYS);
    }
    for Broker { id, actions, .. } in &actions.brokers {
        text.push_str(&statement(id, actions, &format!("!Ref {id}Arn")));
    }
    text.push_str(
        r"
Outputs:
  TableName:
    Value: !Ref Events
  TableArn:
    Value: !GetAtt Events.Arn
  StreamArn:
    Value: !GetAtt Events.StreamArn
  PolicyArn:
    Value: !Ref EventsPolicy
",
    );
    if has_keys {
        text.push_str("  KeysTableName:\n    Value: !Ref Keys\n");
    }
    if !actions.kms.is_empty() {
        text.push_str("  MasterKeyArn:\n    Value: !GetAtt MasterKey.Arn\n");
    }
    text
}

fn keys_parameter(table: &str) -> String {
    format!(
        r#"  KeysTableName:
    Type: String
    Default: {table}-keys
    Description: The name of the table with the keys of personal data
    AllowedPattern: "[a-zA-Z0-9_.-]{{3,255}}"
"#
    )
}

const BUCKET_PARAMETER: &str = "  BucketArn:
    Type: String
    Description: The ARN of the bucket with large events, snapshots, and archives
";

/// The table of the keys. It has no backups, in which forgotten keys would survive.
const KEYS: &str = r"
  Keys:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      TableName: !Ref KeysTableName
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - AttributeName: pk
          AttributeType: S
      KeySchema:
        - AttributeName: pk
          KeyType: HASH
      PointInTimeRecoverySpecification:
        PointInTimeRecoveryEnabled: false
      DeletionProtectionEnabled: true
";

/// The master key. Its policy leaves the permissions to the policies of roles, as the default policy of the console
/// does.
const MASTER_KEY: &str = r#"
  MasterKey:
    Type: AWS::KMS::Key
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      Description: The master key of personal data
      EnableKeyRotation: true
      PendingWindowInDays: 30
      KeyPolicy:
        Version: "2012-10-17"
        Statement:
          - Sid: Account
            Effect: Allow
            Principal:
              AWS: !Sub arn:${AWS::Partition}:iam::${AWS::AccountId}:root
            Action: kms:*
            Resource: "*"
"#;

/// Restricts a statement to the keys in the table.
const OF_THE_KEYS: &str = r"            Condition:
              StringEquals:
                kms:EncryptionContext:es:table: !Ref Keys
";

fn statement(id: &str, actions: &BTreeSet<&'static str>, resource: &str) -> String {
    let mut text = format!("          - Sid: {id}\n            Effect: Allow\n            Action:\n");
    for action in actions {
        text.push_str(&format!("              - {action}\n"));
    }
    text.push_str(&format!("            Resource: {resource}\n"));
    text
}
