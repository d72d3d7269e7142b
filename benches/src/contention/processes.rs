//! Several processes, each with many clients, on one aggregate.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use es_benches::Failure;
use es_benches::engine::Engine;
use es_benches::meter::{Meter, Usage};
use es_benches::report::Table;
use uuid::Uuid;

use crate::by_hand::ByHand;
use crate::many::{self, Contest};
use crate::{Plan, repository};

const PROCESSES: usize = 4;
const CLIENTS: usize = 16;

/// The work of one process: waits for a line on its standard input, executes the commands, and prints the numbers.
pub async fn work(contender: &str, table: &str, id: &str, commands: usize) -> Result<(), Failure> {
    let (engine, meter) = (Engine::from_env()?, Meter::default());
    let client = engine.metered_client(&meter);
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;
    let contest = match contender {
        "by-hand" => many::by_hand(ByHand { client, table: table.to_owned() }, id, CLIENTS, commands).await,
        _ => many::framework(repository(client, table)?, id, CLIENTS, commands).await,
    };
    let (Contest { executed, failed, time, .. }, usage) = (contest, meter.take());
    let Usage { requests, read_units, write_units } = usage;
    println!("{executed} {failed} {} {requests} {read_units} {write_units}", time.as_secs_f64());
    Ok(())
}

pub async fn print(_: &Engine, table: &str, plan: Plan) -> Result<(), Failure> {
    println!("### {PROCESSES} processes with {CLIENTS} clients each on one aggregate\n");
    let rows = Table::new(2, &many::COLUMNS);
    let (mut raws, mut owns) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let id = Uuid::now_v7().to_string();
        raws.push(compete("by-hand", table, &id, plan.commands)?);
        owns.push(compete("framework", table, &id, plan.commands)?);
    }
    let clients = format!("{PROCESSES} × {CLIENTS}");
    many::row(&rows, &clients, "SDK loop", &raws);
    many::row(&rows, &clients, "this framework", &owns);
    Ok(())
}

/// Starts the processes, and adds up what they print.
fn compete(contender: &str, table: &str, id: &str, commands: usize) -> Result<Contest, Failure> {
    let program = std::env::current_exe()?;
    let start = |_| {
        Command::new(&program)
            .args(["worker", contender, table, id, &commands.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut processes: Vec<Child> = (0..PROCESSES).map(start).collect::<Result<_, _>>()?;
    let mut outputs = Vec::new();
    for process in &mut processes {
        let mut output = BufReader::new(process.stdout.take().ok_or("no output")?);
        output.read_line(&mut String::new())?;
        outputs.push(output);
    }
    for process in &mut processes {
        process.stdin.take().ok_or("no input")?.write_all(b"go\n")?;
    }
    let mut all = Contest::default();
    for (process, mut output) in processes.iter_mut().zip(outputs) {
        let mut line = String::new();
        output.read_line(&mut line)?;
        process.wait()?;
        let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [executed, failed, seconds, requests, read_units, write_units] = numbers[..] else {
            return Err(format!("a process has printed {line:?}").into());
        };
        all.executed += executed as usize;
        all.failed += failed as usize;
        all.time = all.time.max(Duration::from_secs_f64(seconds));
        all.usage.requests += requests;
        all.usage.read_units += read_units;
        all.usage.write_units += write_units;
    }
    Ok(all)
}
