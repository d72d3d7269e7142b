//! The module for Terraform.

use std::collections::BTreeSet;

use crate::policy::{Actions, Broker};

/// Returns a module with the table, those of the keys and the master key if they are needed, a policy, and variables.
pub(super) fn module(table: &str, actions: &Actions) -> String {
    let mut statements = Vec::new();
    if !actions.table.is_empty() {
        statements.push(statement("Table", &actions.table, "aws_dynamodb_table.events.arn", ""));
    }
    if !actions.stream.is_empty() {
        // The stream has another name when it was turned off and on again.
        let stream = r#""${aws_dynamodb_table.events.arn}/stream/*""#;
        statements.push(statement("Stream", &actions.stream, stream, ""));
    }
    let mut variables = String::new();
    if !actions.bucket.is_empty() {
        statements.push(statement("Bucket", &actions.bucket, "var.bucket_arn", ""));
        statements.push(statement("Objects", &actions.objects, r#""${var.bucket_arn}/*""#, ""));
        variables.push_str(&arn_variable("bucket", "bucket with large events, snapshots, and archives"));
    }
    if !actions.keys.is_empty() {
        statements.push(statement("Keys", &actions.keys, "aws_dynamodb_table.keys.arn", ""));
    }
    if !actions.kms.is_empty() {
        statements.push(statement("MasterKey", &actions.kms, "aws_kms_key.master.arn", OF_THE_KEYS));
    }
    let keys = if actions.keys.is_empty() { String::new() } else { keys(table) };
    let master_key = if actions.kms.is_empty() { "" } else { MASTER_KEY };
    for Broker { id, name, snake_case, actions } in &actions.brokers {
        statements.push(statement(id, actions, &format!("var.{snake_case}_arn"), ""));
        variables.push_str(&arn_variable(snake_case, &format!("{name} that receives the events")));
    }
    let statements = statements.concat();
    format!(
        r#"variable "table_name" {{
  description = "The name of the table"
  type        = string
  default     = "{table}"
}}

variable "deletion_protection" {{
  description = "Whether AWS refuses to delete the table"
  type        = bool
  default     = true
}}

variable "point_in_time_recovery" {{
  description = "Whether the table can be restored to any second of the last 35 days"
  type        = bool
  default     = true
}}

variable "tags" {{
  description = "The tags of the table and of the policy"
  type        = map(string)
  default     = {{}}
}}

{variables}resource "aws_dynamodb_table" "events" {{
  name                        = var.table_name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  stream_enabled              = true
  stream_view_type            = "NEW_IMAGE"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {{
    name = "pk"
    type = "S"
  }}

  attribute {{
    name = "sk"
    type = "S"
  }}

  ttl {{
    attribute_name = "ttl"
    enabled        = true
  }}

  point_in_time_recovery {{
    enabled = var.point_in_time_recovery
  }}

  lifecycle {{
    prevent_destroy = true
  }}
}}

resource "aws_iam_policy" "events" {{
  name_prefix = "${{var.table_name}}-"
  description = "The least privilege for an event store"
  tags        = var.tags

  policy = jsonencode({{
    Version = "2012-10-17"
    Statement = [
{statements}    ]
  }})
}}

output "table_name" {{
  value = aws_dynamodb_table.events.name
}}

output "table_arn" {{
  value = aws_dynamodb_table.events.arn
}}

output "stream_arn" {{
  value = aws_dynamodb_table.events.stream_arn
}}

output "policy_arn" {{
  value = aws_iam_policy.events.arn
}}
{keys}{master_key}"#
    )
}

/// Returns the variable `{snake_case}_arn`.
fn arn_variable(snake_case: &str, description: &str) -> String {
    format!(
        "variable \"{snake_case}_arn\" {{\n  description = \"The ARN of the {description}\"\n  type        = string\n}}\n\n"
    )
}

/// Returns the table of the keys. It has no backups, in which forgotten keys would survive.
fn keys(table: &str) -> String {
    format!(
        r#"
variable "keys_table_name" {{
  description = "The name of the table with the keys of personal data"
  type        = string
  default     = "{table}-keys"
}}

resource "aws_dynamodb_table" "keys" {{
  name                        = var.keys_table_name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {{
    name = "pk"
    type = "S"
  }}

  point_in_time_recovery {{
    enabled = false
  }}

  lifecycle {{
    prevent_destroy = true
  }}
}}

output "keys_table_name" {{
  value = aws_dynamodb_table.keys.name
}}
"#
    )
}

/// The master key. Without a policy, it leaves the permissions to the policies of roles.
const MASTER_KEY: &str = r#"
resource "aws_kms_key" "master" {
  description             = "The master key of personal data"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  tags                    = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

output "master_key_arn" {
  value = aws_kms_key.master.arn
}
"#;

/// Restricts a statement to the keys in the table.
const OF_THE_KEYS: &str = r#"        Condition = {
          StringEquals = { "kms:EncryptionContext:es:table" = var.keys_table_name }
        }
"#;

fn statement(id: &str, actions: &BTreeSet<&'static str>, resource: &str, condition: &str) -> String {
    let mut text =
        format!("      {{\n        Sid    = \"{id}\"\n        Effect = \"Allow\"\n        Action = [\n");
    for action in actions {
        text.push_str(&format!("          \"{action}\",\n"));
    }
    text.push_str(&format!("        ]\n        Resource = {resource}\n{condition}      }},\n"));
    text
}
