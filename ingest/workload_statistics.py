"""Published statistics of LLM services and of a hot place: what the generated workload rests on, with sources."""

Quantiles = tuple[tuple[float, float], ...]

# Token lengths, (probability, tokens). Computed from the public traces; linear in between.
# Azure 2023 conversation: AzurePublicDataset, AzureLLMInferenceTrace_conv, 19,366 requests (Splitwise, ISCA 2024).
AZURE_2023_PROMPT: Quantiles = (
    (0.0, 2), (0.01, 29), (0.05, 181), (0.10, 207), (0.25, 396), (0.33, 408), (0.50, 1020), (0.67, 1109), (0.75, 1189),
    (0.90, 2735), (0.95, 4083), (0.99, 4142), (0.995, 4831), (0.999, 6179), (1.0, 14050),
)  # fmt: skip
AZURE_2023_OUTPUT: Quantiles = (
    (0.0, 7), (0.01, 16), (0.05, 41), (0.10, 54), (0.25, 85), (0.33, 94), (0.50, 129), (0.67, 371), (0.75, 395),
    (0.90, 424), (0.95, 451), (0.99, 601), (1.0, 1000),
)  # fmt: skip
# Which third of prompt lengths goes with which third of output lengths, of the same trace: shares of the nine classes SS, SM,
# SL, MS, ..., LL with limits at the 33rd and 67th percentile. DynamoLLM (HPCA 2025) has 14, 18, 1, 5, 6, 22, 14, 9, 11 %.
AZURE_2023_CLASSES: tuple[float, ...] = (0.147, 0.184, 0.0, 0.051, 0.056, 0.233, 0.138, 0.095, 0.096)
# Mooncake conversation: kvcache-ai/Mooncake, FAST 2025 release, 12,031 requests; prompt and output hardly depend on each other
# (Spearman .07).
MOONCAKE_PROMPT: Quantiles = (
    (0.0, 891), (0.01, 894), (0.05, 901), (0.10, 964), (0.25, 2307), (0.33, 3900), (0.50, 6909), (0.67, 11953), (0.75, 15368),
    (0.90, 27367), (0.95, 39552), (0.99, 85401), (1.0, 126195),
)  # fmt: skip
MOONCAKE_OUTPUT: Quantiles = (
    (0.0, 1), (0.01, 3), (0.05, 10), (0.10, 24), (0.25, 157), (0.33, 239), (0.50, 350), (0.67, 432), (0.75, 472),
    (0.90, 597), (0.95, 698), (0.99, 1120), (1.0, 2000),
)  # fmt: skip
THIRDS = (0.0, 0.33, 0.67, 1.0)

# The week of Azure's 2024 conversation service (12 to 18 May 2024): least-squares fits to the requests per minute, relative.
# DAY_LEVELS: mean of each day from Monday, relative to the week's highest minute. The shapes: 1 + sum of a_k cos + b_k sin of
# 2 pi k hour / 24, as (a_1, b_1, a_2, b_2, ...).
DAY_LEVELS: tuple[float, ...] = (0.670, 0.695, 0.642, 0.649, 0.584, 0.374, 0.361)
WEEKDAY_SHAPE: tuple[float, ...] = (-0.185, -0.063, -0.026, 0.065, 0.046, 0.017)
WEEKEND_SHAPE: tuple[float, ...] = (-0.076, -0.174, 0.011, 0.045)
# What the curve must come to: DynamoLLM (HPCA 2025) for conversation. Azure 2024 by the hour: 1.66 and 3.5.
PEAK_OVER_MEAN = 1.7
PEAK_OVER_VALLEY = 3.3

# ServeGen (alibaba/ServeGen, language clients in 10 min windows): coefficient of variation of a client's inter-arrival times,
# median over clients.
BURST_CV = 1.2

# Phoenix, Arizona (NOAA climate normals 1991-2020, Sky Harbor): mean daily maximum and minimum by month from January, degC.
HOT_DAILY_MAX_C: tuple[float, ...] = (20, 22, 26, 30, 35, 40, 41, 41, 38, 32, 25, 19)
HOT_DAILY_MIN_C: tuple[float, ...] = (8, 9, 13, 16, 21, 26, 29, 29, 26, 19, 14, 7)
HOT_UTC_OFFSET_H = -7.0
WARMEST_LOCAL_HOUR = 16.0
# Day-to-day departure from the normals: standard deviation and autocorrelation from one day to the next (our assumption).
DEPARTURE_SD_K = 2.0
DEPARTURE_AUTOCORRELATION = 0.7
