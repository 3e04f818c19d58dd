"""The tools that programs may call, as the API lists them."""
