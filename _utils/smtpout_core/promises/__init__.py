"""What a site keeps its word on: promises as data, asked by mail of a trial of the whole chain."""
