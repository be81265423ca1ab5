"""Recipes that are passed around: bases to extend, addresses in packages, hubs and servers, and variables.

Importing this package is light; what fetches is imported when a recipe asks for it.
"""
