//! The template for AWS CloudFormation.

use std::collections::BTreeSet;

use crate::policy::Actions;

/// Returns a template of the table, and of a managed policy for it.
pub(super) fn template(table: &str, actions: &Actions) -> String {
    let mut text = format!(
        r#"AWSTemplateFormatVersion: "2010-09-09"
Description: An event store, and the permissions of the processes that use it

Parameters:
  TableName:
    Type: String
    Default: {table}
    Description: The name of the table
    AllowedPattern: "[a-zA-Z0-9_.-]{{3,255}}"

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

  EventsPolicy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      Description: The least privilege for an event store
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
"#
    );
    text.push_str(&statement("Table", &actions.table, "!GetAtt Events.Arn"));
    if !actions.stream.is_empty() {
        // The stream has another name when it was turned off and on again.
        text.push_str(&statement("Stream", &actions.stream, "!Sub ${Events.Arn}/stream/*"));
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
    text
}

fn statement(id: &str, actions: &BTreeSet<&'static str>, resource: &str) -> String {
    let mut text = format!("          - Sid: {id}\n            Effect: Allow\n            Action:\n");
    for action in actions {
        text.push_str(&format!("              - {action}\n"));
    }
    text.push_str(&format!("            Resource: {resource}\n"));
    text
}
