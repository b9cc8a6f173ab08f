"""One file per model family, all behind `contracts.ports.Forecaster`."""
