//! `pa-datagen merge`, `check` and `tar`: what is done to data sets that are there. The plain command has no
//! subcommand and its options stand alone, so the first word decides.

use std::path::PathBuf;

use clap::Parser;
use popalign::base::Values;
use popalign::cli::{self, Outcome};
use popalign::data::check::check;
use popalign::data::merge::merge;
use popalign::data::webdataset::pack;
use popalign::store::{Place, Store};
use serde_json::json;

/// What `--per-tar` can be.
const PER_TAR: Values<usize> = Values::within("a number of pictures", 1, 1_000_000);

/// A tool with its arguments.
#[derive(Debug)]
pub(crate) enum Tool {
    Merge(Merge),
    Check(Check),
    Tar(Tar),
}

/// The tool that the command line names, if it names one.
pub(crate) fn named() -> Option<Tool> {
    let name = std::env::args_os().nth(1)?;
    let rest = || std::env::args_os().skip(1);
    match name.to_str()? {
        "merge" => Some(Tool::Merge(Merge::parse_from(rest()))),
        "check" => Some(Tool::Check(Check::parse_from(rest()))),
        "tar" => Some(Tool::Tar(Tar::parse_from(rest()))),
        _ => None,
    }
}

impl Tool {
    /// Does its work.
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        match self {
            Tool::Merge(args) => args.run(),
            Tool::Check(args) => args.run(),
            Tool::Tar(args) => args.run(),
        }
    }
}

/// Join shards of one data set that were drawn into folders of their own
#[derive(Debug, Parser)]
#[command(
    bin_name = "pa-datagen merge",
    after_help = "Files are linked where the file system can; a single data set is fetched from a store, or \
        brought there, in the same way. What is in none of the folders is left out, \
        named, and can be drawn into --out by the same pa-datagen command or merged later."
)]
pub(crate) struct Merge {
    /// Data sets of the same configuration, finished or not: folders, or URLs as in s3://bucket/prefix
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<Place>,
    /// Folder or URL to write, or to go on with
    #[arg(long, value_name = "DIR")]
    out: Place,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    json: bool,
}

impl Merge {
    fn run(&self) -> anyhow::Result<Outcome> {
        let dirs: Vec<Store> = self
            .dirs
            .iter()
            .map(Store::open)
            .collect::<Result<_, _>>()?;
        let outcome = merge(&dirs, Store::open(&self.out)?)?;
        let out = self.out.to_string();
        let (kept, dropped) = (outcome.kept, outcome.dropped.values().sum::<usize>());
        tracing::info!("{out}: complete, {kept} pictures kept, {dropped} dropped");
        cli::event(
            self.json,
            &json!({"event": "done", "out": out, "kept": kept, "dropped": outcome.dropped}),
        );
        Ok(Outcome::Done)
    }
}

/// Look at every byte of data sets: files that are missing, changed or strangers; pictures that are missing
/// or stand there twice
#[derive(Debug, Parser)]
#[command(
    bin_name = "pa-datagen check",
    after_help = "Nothing is changed. The exit code is 1 if anything is wrong or a data set is unfinished; \
        the pa-datagen command that made it makes again what is missing or damaged."
)]
pub(crate) struct Check {
    /// Data sets: folders, or URLs as in s3://bucket/prefix
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<Place>,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    json: bool,
}

impl Check {
    fn run(&self) -> anyhow::Result<Outcome> {
        let mut wrong = 0;
        for dir in &self.dirs {
            let checked = check(&Store::open(dir)?.doubting())?;
            let (rows, files, shown) = (checked.rows, checked.files, dir.to_string());
            for problem in &checked.problems {
                tracing::warn!("{shown}: {problem}");
                let (kind, text) = (problem.kind(), problem.to_string());
                cli::event(
                    self.json,
                    &json!({"event": "problem", "dir": shown, "kind": kind, "problem": text}),
                );
            }
            let problems = checked.problems.len();
            wrong += problems;
            let found = match problems {
                0 => "whole".to_owned(),
                _ => format!("{problems} problems"),
            };
            tracing::info!("{shown}: {found}, {rows} pictures, {files} files compared");
            cli::event(
                self.json,
                &json!({"event": "checked", "dir": shown, "pictures": rows, "files": files,
                    "problems": problems}),
            );
        }
        match wrong {
            0 => Ok(Outcome::Done),
            _ => anyhow::bail!("{wrong} problems were found"),
        }
    }
}

/// Pack a data set into tars that the Python package webdataset reads
#[derive(Debug, Parser)]
#[command(
    bin_name = "pa-datagen tar",
    after_help = "Each picture is KEY.png (or .jpg), KEY.txt (its caption), KEY.json (its row of \
        metadata.jsonl) and KEY.npy (its latents). The same data set gives the same bytes."
)]
pub(crate) struct Tar {
    /// A finished data set
    dir: PathBuf,
    /// Folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures in each tar
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = PER_TAR)]
    per_tar: usize,
    /// Also pictures that the filter dropped
    #[arg(long)]
    all: bool,
    /// Print events as JSON lines on standard output
    #[arg(long)]
    json: bool,
}

impl Tar {
    fn run(&self) -> anyhow::Result<Outcome> {
        let packed = pack(&self.dir, &self.out, self.per_tar, self.all)?;
        let (tars, pictures) = (packed.tars, packed.pictures);
        tracing::info!("{}: {pictures} pictures in {tars} tars", self.out.display());
        cli::event(
            self.json,
            &json!({"event": "done", "out": self.out, "tars": tars, "pictures": pictures}),
        );
        Ok(Outcome::Done)
    }
}
