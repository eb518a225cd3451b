//! The sources as GPUs get them: compiled by NVRTC to PTX, by ptxas to machine code.
//!
//! `scripts/test` brings both (`scripts/cuda-tools`); without them the tests say what is not checked.
//! `scripts/kernels` sets POPALIGN_UPDATE, with which the tests write what they otherwise hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use popalign::device::sources::{SOURCES, Source, nvrtc_version};

const ARCHITECTURES: [&str; 6] = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100"];
/// The versions that the table is made with: others allot registers otherwise.
const NVRTC: i32 = 12_090;
const PTXAS: &str = "V12.9.86";
/// The NVRTC that makes `kernels/ptx`, whose PTX every driver of CUDA 12 takes.
const OLD_NVRTC: i32 = 12_000;

/// Whether `scripts/kernels` wants this written anew.
fn updating(what: &str) -> bool {
    std::env::var("POPALIGN_UPDATE").is_ok_and(|wanted| wanted == what)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// The assembler, if there is one.
fn ptxas() -> Result<PathBuf, String> {
    let path = std::env::var_os("POPALIGN_PTXAS").map_or("ptxas".into(), PathBuf::from);
    match Command::new(&path).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(PTXAS) {
                Ok(path)
            } else {
                Err(format!("ptxas is not {PTXAS}: {text}"))
            }
        }
        other => Err(format!("no ptxas: {other:?}")),
    }
}

/// What a kernel takes.
struct Use {
    registers: u32,
    shared: u32,
}

/// Assembles PTX and reads what ptxas says of each kernel. Nothing may be spilled.
fn assemble(ptxas: &Path, ptx: &str, arch: &str) -> BTreeMap<String, Use> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kernel.ptx");
    std::fs::write(&file, ptx).unwrap();
    let output = Command::new(ptxas)
        .args(["-v", "-arch", arch, "-o"])
        .arg(dir.path().join("kernel.cubin"))
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arch}: {text}");
    let number = |line: &str, unit: &str| -> u32 {
        let before = line.split(unit).next().filter(|_| line.contains(unit));
        let word = before.and_then(|b| b.split_whitespace().next_back());
        word.map_or(0, |w| w.parse().unwrap())
    };
    let mut found = BTreeMap::new();
    let mut kernel = "";
    for line in text.lines() {
        if let Some(name) = line
            .split('\'')
            .nth(1)
            .filter(|_| line.contains("Compiling entry"))
        {
            kernel = name;
        } else if line.contains("spill") {
            let none = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
            assert!(line.contains(none), "{kernel} for {arch}: {line}");
        } else if line.contains("Used ") {
            let used = Use {
                registers: number(line, " registers"),
                shared: number(line, " bytes smem"),
            };
            found.insert(kernel.to_owned(), used);
        }
    }
    found
}

/// The kernels are in it, and operations are rounded one by one, as the twins' are.
fn assert_sound(source: &Source, arch: &str, ptx: &str) {
    for kernel in source.kernels {
        let entry = format!(".entry {kernel}(");
        assert!(ptx.contains(&entry), "{kernel} for {arch}");
    }
    // Without a rounding mode ptxas may fuse a product into a sum.
    for word in [
        "fma.", "mad.f", "mul.f", "add.f", "sub.f", ".approx", ".ftz",
    ] {
        assert!(!ptx.contains(word), "{} for {arch} has {word}", source.file);
    }
}

/// The table of `kernels/README.md`, made from today's sources.
fn table(ptxas: &Path) -> String {
    let mut lines = BTreeMap::<(usize, &str), String>::new();
    for arch in ARCHITECTURES {
        for (order, source) in SOURCES.iter().enumerate() {
            let ptx = source.compile(arch).unwrap();
            assert_sound(source, arch, &ptx);
            let used = assemble(ptxas, &ptx, arch);
            for kernel in source.kernels {
                let Use { registers, shared } = used[*kernel];
                let line = lines.entry((order, kernel)).or_default();
                write!(line, " {registers}, {shared} |").unwrap();
            }
        }
    }
    let mut text = format!("| kernel | {} |\n", ARCHITECTURES.join(" | "));
    text += &format!("| --- |{}\n", " --- |".repeat(ARCHITECTURES.len()));
    for ((_, kernel), line) in lines {
        writeln!(text, "| `{kernel}` |{line}").unwrap();
    }
    text
}

/// Both compilers at the versions of the table, or what is missing.
fn compilers() -> Result<PathBuf, String> {
    match nvrtc_version() {
        Ok(NVRTC) => ptxas(),
        Ok(other) => Err(format!("NVRTC is {other}, not {NVRTC}")),
        Err(missing) => Err(missing.to_string()),
    }
}

#[test]
fn every_source_compiles_for_gpus_and_takes_what_the_table_says() {
    let ptxas = match compilers() {
        Ok(ptxas) => ptxas,
        Err(missing) => {
            eprintln!("NOT CHECKED: compilation of the kernels for GPUs: {missing}");
            return;
        }
    };
    let table = table(&ptxas);
    if updating("table") {
        write_table(&table);
    }
    let page = std::fs::read_to_string(folder().join("README.md")).unwrap();
    assert!(
        page.contains(&table),
        "kernels/README.md is not of today's sources; run scripts/kernels:\n{table}"
    );
    for source in SOURCES {
        for arch in ARCHITECTURES {
            assert_eq!(
                assemble(&ptxas, source.prebuilt, arch).len(),
                source.kernels.len()
            );
        }
    }
}

#[test]
fn prebuilt_ptx_is_of_todays_sources() {
    if updating("ptx") {
        return write_prebuilt_ptx();
    }
    for source in SOURCES {
        let (line, ptx) = source.prebuilt.split_once('\n').unwrap_or_default();
        assert_eq!(
            line,
            format!("// source sha256 {}", source.hash()),
            "{} changed; run scripts/kernels",
            source.file
        );
        // PTX 8.0 came with CUDA 12.0.
        assert!(
            ptx.contains(".version 8.0\n.target sm_75\n"),
            "{}",
            source.file
        );
        assert_sound(source, "compute_75", ptx);
    }
}

fn write_prebuilt_ptx() {
    assert_eq!(nvrtc_version().unwrap(), OLD_NVRTC);
    for source in SOURCES {
        let ptx = source.compile("compute_75").unwrap();
        let name = source.file.replace(".cu", ".ptx");
        let text = format!("// source sha256 {}\n{}", source.hash(), ptx.trim_end());
        std::fs::write(folder().join("ptx").join(name), text + "\n").unwrap();
    }
}

fn write_table(table: &str) {
    let path = folder().join("README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let start = page.find("| kernel |").unwrap();
    let end = page[start..]
        .find("\n\n")
        .map_or(page.len(), |k| start + k + 1);
    std::fs::write(&path, format!("{}{table}{}", &page[..start], &page[end..])).unwrap();
}

/// Every kernel file is listed, so that none escapes compilation and packaging.
#[test]
fn every_kernel_file_is_embedded() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".cu") {
            let source = SOURCES.iter().find(|s| s.file == name);
            let source = source.unwrap_or_else(|| panic!("{name} is not in SOURCES"));
            let text = source.assembled();
            assert!(
                !text.contains("#include \""),
                "{name}: an include was not resolved"
            );
            let count = text.matches("__global__ void").count();
            assert_eq!(count, source.kernels.len(), "entry points of {name}");
        }
    }
}
