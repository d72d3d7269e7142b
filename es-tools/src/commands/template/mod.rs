//! `table template`: the table, and a policy for the parts of the framework that use it, as code.

mod cloudformation;
mod terraform;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::failure::Result;
use crate::output::Output;
use crate::policy::{Actions, Feature};

/// The options of `table template`.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The language of the template
    language: Language,
    /// The parts of the framework that the policy permits
    #[arg(long, value_delimiter = ',', value_name = "FEATURE", default_values = ["application", "verify", "indexer"])]
    features: Vec<Feature>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    /// A CloudFormation template, in YAML
    #[value(name = "cloudformation")]
    CloudFormation,
    /// A Terraform module with variables
    Terraform,
}

/// Prints the template. `table` is the default of its parameter for the name of the table.
pub(super) fn print(options: &Options, table: &str, output: Output) -> Result {
    let actions = Actions::of(&options.features);
    let text = match options.language {
        Language::CloudFormation => cloudformation::template(table, &actions),
        Language::Terraform => terraform::module(table, &actions),
    };
    output.value(&json!({ "template": text }), || text.clone())
}
