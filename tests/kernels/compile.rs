//! The sources as GPUs get them.

use std::path::Path;

use popalign::device::sources::{SOURCES, nvrtc_present};

#[test]
fn every_source_compiles_for_gpus_where_nvrtc_is_present() {
    if let Err(missing) = nvrtc_present() {
        eprintln!("NOT CHECKED: compilation of the kernels to PTX: {missing}");
        return;
    }
    for source in SOURCES {
        for arch in ["sm_80", "sm_90"] {
            let ptx = source
                .compile(arch)
                .unwrap_or_else(|e| panic!("{arch}: {e}"))
                .to_src();
            for kernel in source.kernels {
                assert!(
                    ptx.contains(&format!(".entry {kernel}(")),
                    "{kernel} in {}",
                    source.file
                );
            }
            assert!(
                !ptx.contains("fma."),
                "{} uses fused multiply-add",
                source.file
            );
        }
    }
}

/// Every kernel file is listed, so that none escapes compilation and packaging.
#[test]
fn every_kernel_file_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    for entry in std::fs::read_dir(folder).unwrap() {
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
